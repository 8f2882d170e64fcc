"""`python -m loadtests.peers`: this service beside what people would otherwise use."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from loadtests.peers.arms import Arm
from loadtests.peers.comparison import Comparison
from loadtests.peers.machine import describe_machine
from loadtests.peers.plan import Plan, Trace
from loadtests.peers.plot import svg
from loadtests.peers.report import markdown
from loadtests.peers.results import Results

T = TypeVar("T")


def main(
    arms: Annotated[str, typer.Option(help="Some of them, by comma.")] = ",".join(Arm),
    trace: Annotated[str, typer.Option(help="One of them, or both.")] = ",".join(Trace),
    loads: Annotated[
        str, typer.Option(help="Shares of the best peer's capacity; '' for capacities alone.")
    ] = "0.3,0.6,0.85,1.1",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 32,
    saturated_size: Annotated[
        int, typer.Option(help="Pixels a side of what only capacities are measured of; 0: nothing.")
    ] = 128,
    threads: Annotated[
        str, typer.Option(help="Of torch: each is tried, and every arm has its fastest.")
    ] = ",".join(map(str, Plan().threads)),
    rounds: Annotated[int, typer.Option(help="Passes of each arm at each load.")] = 2,
    seconds: Annotated[float, typer.Option(help="How long requests come in a pass.")] = 60.0,
    out: Annotated[Path, typer.Option(help="The folder of results and report.")] = Path(
        "peers-out"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Little of each: does it run?")] = False,
    report: Annotated[bool, typer.Option("--report", help="Measure nothing.")] = False,
) -> None:
    """Measure what OUT does not have yet, and write its report anew.

    A long run can be made of short ones with the same --out: first all capacities (--loads ''),
    of which the loads are shares, then some arms, traces and loads at a time. Another pass of what
    is there already is added to it.
    """
    plan = Plan(
        arms=_some("--arms", arms, Arm),
        traces=_some("--trace", trace, Trace),
        loads=_some("--loads", loads, float),
        size=size,
        saturated_size=saturated_size or None,
        threads=_some("--threads", threads, int),
        rounds=rounds,
        seconds=seconds,
    )
    if quick:
        plan = plan.quick()
    results = Results(out / ("quick.jsonl" if quick else "results.jsonl"))
    failures: list[str] = []
    if not report:
        comparison = Comparison(plan, results)
        guess, most = comparison.minutes
        typer.echo(f"This takes about {guess:.0f} minutes, and {most:.0f} at most.")
        # So that every arm is ended. A shell starts what is in its background deaf to SIGINT.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler)
        results.add(describe_machine())
        asyncio.run(comparison.measure())
        failures = comparison.failures
    if not results.subjects:
        typer.echo("Nothing was measured.", err=True)
        raise typer.Exit(1)
    (out / "report.md").write_text(markdown(results), encoding="utf-8")
    (out / "report.svg").write_text(svg(results), encoding="utf-8")
    typer.echo((out / "report.md").read_text(encoding="utf-8"))
    typer.echo(f"Written to {out}/report.md and {out}/report.svg.")
    raise typer.Exit(1 if failures else 0)


def _some(option: str, text: str, kind: type[T]) -> tuple[T, ...]:
    """The values of a list.

    Raises:
        typer.BadParameter: one is none of the kind.
    """
    try:
        return tuple(kind(word.strip()) for word in text.split(",") if word.strip())  # type: ignore[call-arg]
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error


if __name__ == "__main__":
    typer.run(main)
