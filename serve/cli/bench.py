"""`sfumato bench`: how fast, by measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.bench.command import engine
from serve.cli.target import settings

app = typer.Typer(help="Measure how fast it is.", no_args_is_help=True)
app.command("engine")(engine)


@app.command("served")
def served(
    load: Annotated[
        float, typer.Option(help="Of the mixed trace, as a share of full batches of 8.")
    ] = 0.45,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was measured.")
    ] = None,
) -> None:
    """The running service beside the bare engine: one picture, full batches, a mixed trace."""
    from serve.cli import served

    raise typer.Exit(served.run(settings(), served.Plan(load=load), json_file))


@app.callback()
def main() -> None:
    """Measure how fast it is."""
