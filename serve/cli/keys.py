"""`sfumato keys`: who may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from serve.cli.target import database_url, settings
from serve.errors import ServiceError
from serve.security.keys import Keys

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
T = TypeVar("T")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[str, typer.Option(help="Whose it is; made if new.")] = "default",
) -> None:
    """Make a key; it is shown this once."""
    key, row = _run(lambda keys: keys.create(tenant, name))
    typer.echo(f"{key}\n\nKept as {row.prefix}… ({row.id}); it will not be shown again.")


@app.command("list")
def show(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
) -> None:
    """List keys, revoked ones too."""
    table = Table("id", "prefix", "name", "created", "revoked")
    for key in _run(lambda keys: keys.list(tenant)):
        revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        table.add_row(
            str(key.id), key.prefix, key.name, f"{key.created_at:%Y-%m-%d %H:%M}", revoked
        )
    Console().print(table)


@app.command("revoke")
def revoke(key_id: Annotated[UUID, typer.Argument(help="The id that `list` shows.")]) -> None:
    """Close the door to a key."""
    _run(lambda keys: keys.revoke(key_id))
    typer.echo(f"Revoked {key_id}.")


def _run(call: Callable[[Keys], Awaitable[T]]) -> T:
    async def work() -> T:
        from serve.database import Database

        database = Database(database_url(settings()), pool_size=1)
        try:
            return await call(Keys(database))
        finally:
            await database.close()

    try:
        return asyncio.run(work())
    except ServiceError as error:
        typer.echo(f"{error} Is `sfumato up` running, or DATABASE_URL set?", err=True)
        raise typer.Exit(1) from error
