"""``python -m loadtests.monitoring``: its files, a picture of a dashboard, and drills."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from loadtests.monitoring.dashboards import dashboards
from loadtests.monitoring.files import files
from loadtests.monitoring.prometheus import scraping
from loadtests.monitoring.rehearsal import DRILLS, rehearse
from loadtests.soak.clients import Load
from loadtests.soak.service import started

app = typer.Typer(add_completion=False)


@app.command("files")
def write() -> None:
    """Write the dashboards and the PrometheusRule again."""
    for path, text in files().items():
        path.write_text(text)
        typer.echo(path.name)


@app.command()
def picture(
    name: Annotated[str, typer.Option("--dashboard", help="Which one.")] = "service",
    seconds: Annotated[float, typer.Option(help="Of load.")] = 90,
    jobs_per_s: Annotated[float, typer.Option(help="Of the load.")] = 1.5,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/dashboard.webp"),
) -> None:
    """Start the service and Prometheus, load the one, and draw what the other has scraped."""
    asyncio.run(_picture(name, seconds, jobs_per_s, out))


async def _picture(name: str, seconds: float, jobs_per_s: float, out: Path) -> None:
    from loadtests.monitoring.picture import draw  # of the extra `dev`, as `files` is not

    (board,) = (each for each in dashboards() if each.name == name)
    async with started() as (service, root), scraping(service.url, root) as prometheus:
        load, began = Load(service, jobs_per_s, seed=1), monotonic()
        await load.run(seconds)
        empty = await draw(board, prometheus, monotonic() - began, out)
    typer.echo(f"{out}: {sum(load.tally.asked.values())} clients; empty: {', '.join(empty) or '-'}")


@app.command("rehearse")
def rehearse_one(
    fault: Annotated[str, typer.Argument(help=", ".join(DRILLS))],
) -> None:
    """Start the service and Prometheus, inject a fault, and wait until its alert fires."""
    asyncio.run(rehearse(DRILLS[fault]))


if __name__ == "__main__":
    app()
