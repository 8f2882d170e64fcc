"""What a person sees of a failure that nobody foresaw: a sentence, and where the rest is."""

from __future__ import annotations

import tempfile
import traceback
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from serve.errors import ServiceError
from serve.local.errors import LocalServerError


class CommandGroup(TyperGroup):
    """Ends a command that fails with a sentence and status 1; a traceback goes to a file."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except (ServiceError, LocalServerError) as error:
            typer.echo(f"✗ {error}", err=True)
        except Exception as error:  # noqa: BLE001 - the boundary of the process
            with tempfile.NamedTemporaryFile(
                "w", prefix="sfumato-", suffix=".traceback", delete=False, encoding="utf-8"
            ) as file:
                traceback.print_exception(error, file=file)
            told = str(error).strip().partition("\n")[0] or "without a word"
            typer.echo(
                f"✗ This failed unexpectedly ({type(error).__name__}: {told}); please report it"
                f" with {file.name}.",
                err=True,
            )
        raise typer.Exit(1)
