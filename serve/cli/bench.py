"""`sfumato bench`: measures the engine, and the running service beside it or beside a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from pipelines.bench.command import engine
from pipelines.bench.output_file import output_file
from serve.cli.target import settings

app = typer.Typer(help="Measure how fast it is.", no_args_is_help=True)
app.command("engine")(engine)


def _url(text: str | None) -> str | None:
    parts = urlsplit(text or "http://unset")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{text!r} is no URL; give one like http://127.0.0.1:8001.")
    return text


@app.command("served")
def served(
    load: Annotated[
        float,
        typer.Option(min=0.01, max=10, help="Of the mixed trace, as a share of full batches of 8."),
    ] = 0.45,
    peer: Annotated[
        str | None,
        typer.Option(
            help="Another server of the same model, to be measured instead of the engine.",
            callback=_url,
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=1, max=86_400, help="With a peer: how long requests come in each pass, at most."
        ),
    ] = 90.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="With a peer: little of each, to see that it runs.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write everything that was measured.", callback=output_file),
    ] = None,
) -> None:
    """The running service beside the bare engine: one picture, full batches, a mixed trace."""
    if peer is None:
        from serve.cli.served import Plan, run

        raise typer.Exit(run(settings(), Plan(load=load), json_file))
    from serve.cli.peer import PeerPlan, run_beside_peer

    plan = PeerPlan(seconds=seconds)
    raise typer.Exit(run_beside_peer(settings(), peer, plan.quick() if quick else plan, json_file))
