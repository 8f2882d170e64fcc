"""`python -m pipelines.bench`: the benches where the service is not installed."""

from __future__ import annotations

import sys

import typer

from pipelines.bench.command import engine
from pipelines.bench.encoders import encoders
from pipelines.bench.gpu.command import gpu

app = typer.Typer(help="Measure how fast the engine is.")
app.command()(engine)
app.command()(encoders)
app.command()(gpu)

if __name__ == "__main__":
    arguments = sys.argv[1:]
    app(
        arguments
        if arguments[:1] in (["engine"], ["encoders"], ["gpu"])
        else ["engine", *arguments]
    )
