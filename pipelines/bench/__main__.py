"""`python -m pipelines.bench`: the engine's bench where the service is not installed."""

from __future__ import annotations

import typer

from pipelines.bench.command import engine

if __name__ == "__main__":
    typer.run(engine)
