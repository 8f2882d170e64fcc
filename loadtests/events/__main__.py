"""`python -m loadtests.events`: what live events cost and how fast they come.

Runs beside a service, on its machine; `sfumato up` with the same environment is enough.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Annotated, Literal

import typer
import uvloop

from loadtests.events import cuts, fan_out, reconnect, slow_readers
from loadtests.events.service import Service

app = typer.Typer(help="Measure live events of a running service.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Where the service listens.")]
Key = Annotated[str, typer.Option(envvar="SFUMATO_API_KEY", help="A key of it.")]
Seconds = Annotated[float, typer.Option(help="How long the load lasts.")]
Rate = Annotated[float, typer.Option(help="Jobs submitted a second.")]
LOCAL = "http://127.0.0.1:8000"


@app.callback()
def main() -> None:
    """Measure live events of a running service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    typer.echo(f"{soft} files were allowed, {hard} are." if soft != hard else "", nl=soft != hard)


@app.command("fan-out")
def measure_fan_out(
    key: Key,
    url: Url = LOCAL,
    sockets: Annotated[int, typer.Option(help="Open WebSockets.")] = 500,
    audience: Annotated[
        Literal["own", "all"], typer.Option(help="A job each, or all jobs for everyone.")
    ] = "own",
    jobs_per_s: Rate = 2.0,
    seconds: Seconds = 30.0,
) -> None:
    """Seconds from an event's commit to its receipt."""
    measure = fan_out.everyone if audience == "all" else fan_out.each_its_own
    found = uvloop.run(measure(Service(url, key), sockets, jobs_per_s, seconds))
    typer.echo(f"{sockets} sockets, audience {audience}, {jobs_per_s:g} jobs/s, {seconds:g} s")
    typer.echo(str(found))


@app.command("slow-readers")
def measure_slow_readers(
    key: Key,
    url: Url = LOCAL,
    readers: Annotated[int, typer.Option(help="Sockets that are never read.")] = 200,
    jobs_per_s: Rate = 2.0,
    seconds: Seconds = 60.0,
) -> None:
    """Memory that readers cost which never read."""
    typer.echo(f"{readers} readers, {jobs_per_s:g} jobs/s, {seconds:g} s")
    found = asyncio.run(slow_readers.cost(Service(url, key), readers, jobs_per_s, seconds))
    typer.echo(str(found))


@app.command("cuts")
def measure_cuts(
    key: Key,
    url: Url = LOCAL,
    number: Annotated[int, typer.Option(help="Cuts at a random byte.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the random bytes.")] = 1,
) -> None:
    """Gaps and doubles after cuts and resumption."""
    typer.echo(str(asyncio.run(cuts.resume(Service(url, key), number, seed=seed))))


@app.command("reconnect")
def measure_reconnect(
    key: Key,
    url: Url = LOCAL,
    sockets: Annotated[int, typer.Option(help="Clients that come at once.")] = 2000,
) -> None:
    """Seconds until clients that all come at once have resumed."""
    typer.echo(f"{sockets} clients come at once")
    typer.echo(str(uvloop.run(reconnect.storm(Service(url, key), sockets))))


app()
