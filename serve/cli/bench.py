"""`sfumato bench`: how fast, by measurement."""

from __future__ import annotations

import typer

from pipelines.bench.command import engine

app = typer.Typer(help="Measure how fast it is.", no_args_is_help=True)
app.command("engine")(engine)


@app.callback()
def main() -> None:
    """Measure how fast it is."""
