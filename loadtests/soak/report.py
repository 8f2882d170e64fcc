"""The verdict on each process, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.soak.clients import Tally
from loadtests.soak.family import SUMMED
from loadtests.soak.sampler import Samples, Series
from loadtests.soak.slope import FEWEST, Slope, fit

MEMORY_BOUND = 6.0
"""Megabytes an hour below which a process's memory is called flat."""
COUNT_BOUND = 12.0
"""The same of file handles, threads and connections: below one in five minutes."""
_MB = 1e6
_COLUMNS = (
    "process",
    "MB first",
    "MB last",
    "MB an hour",
    "file handles",
    "handles an hour",
    "sockets",
    "threads",
    "threads an hour",
    "verdict",
)


class Verdict(StrEnum):
    FLAT = "flat"
    GROWS = "grows"
    ENDED = "ended"
    """The process did not live to the end: replicas fell, or were scaled down."""
    SHORT = "too short"
    """It began too late to be judged."""


@dataclass(frozen=True, slots=True)
class Row:
    """One process, or all of a role, after the warm-up; pairs are first and last."""

    name: str
    memory_mb: tuple[float, float]
    handles: tuple[int, int]
    sockets: tuple[int, int]
    threads: tuple[int, int]
    memory_slope: Slope | None
    """Megabytes."""
    handle_slope: Slope | None
    thread_slope: Slope | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Connections:
    """Of Postgres' clients."""

    first: int
    last: int
    slope: Slope
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """A run's."""

    rows: list[Row]
    connections: Connections | None
    tally: Tally

    @property
    def complaints(self) -> list[str]:
        """Why the run failed; empty where it passed."""
        found = [f"{row.name}: {row.verdict}" for row in self.rows if row.verdict in _BAD]
        if self.connections is not None and self.connections.verdict in _BAD:
            found.append(f"Postgres connections: {self.connections.verdict}")
        if self.tally.lost:
            found.append(f"{self.tally.lost} accepted jobs have not ended")
        found += [f"{count} × {what}" for what, count in sorted(self.tally.faults.items())]
        if self.tally.idle_closed:
            found.append(f"{self.tally.idle_closed} idle WebSockets were closed")
        return found


_BAD = (Verdict.GROWS, Verdict.ENDED)


def judge(samples: Samples, tally: Tally, warm_up_s: float) -> Report:
    """Draw the lines through what came after the warm-up."""
    after = [_after(series, warm_up_s) for series in samples.series]
    rows = [_row(series, samples.last_at) for series in after if series.seconds]
    counts = [(at, count) for at, count in samples.connections if at >= warm_up_s]
    connections = None
    if len(counts) >= FEWEST:
        seconds, values = zip(*counts, strict=True)
        slope = fit(seconds, values)
        verdict = Verdict.GROWS if slope.grows(COUNT_BOUND) else Verdict.FLAT
        connections = Connections(values[0], values[-1], slope, verdict)
    return Report(rows, connections, tally)


def _after(series: Series, warm_up_s: float) -> Series:
    kept = Series(series.name)
    for at, usage in zip(series.seconds, series.usage, strict=True):
        if at >= warm_up_s:
            kept.add(at, usage)
    return kept


def _row(series: Series, last_at: float) -> Row:
    first, last = series.usage[0], series.usage[-1]
    memory = handles = threads = None
    if len(series.seconds) >= FEWEST:
        memory = fit(series.seconds, [usage.memory / _MB for usage in series.usage])
        handles = fit(series.seconds, [usage.handles for usage in series.usage])
        threads = fit(series.seconds, [usage.threads for usage in series.usage])
    if series.seconds[-1] < last_at and series.name not in SUMMED:
        verdict = Verdict.ENDED
    elif memory is None or handles is None or threads is None:
        verdict = Verdict.SHORT
    elif memory.grows(MEMORY_BOUND) or handles.grows(COUNT_BOUND) or threads.grows(COUNT_BOUND):
        verdict = Verdict.GROWS
    else:
        verdict = Verdict.FLAT
    return Row(
        name=series.name,
        memory_mb=(first.memory / _MB, last.memory / _MB),
        handles=(first.handles, last.handles),
        sockets=(first.sockets, last.sockets),
        threads=(first.threads, last.threads),
        memory_slope=memory,
        handle_slope=handles,
        thread_slope=threads,
        verdict=verdict,
    )


def save(report: Report, samples: Samples, asked: Any, folder: Path) -> None:
    """report.json, samples.json with every sample, report.md with the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    bounds = {"memory_mb_per_hour": MEMORY_BOUND, "counts_per_hour": COUNT_BOUND}
    whole = {
        "asked": asked,
        "bounds": bounds,
        "complaints": report.complaints,
        "lost": report.tally.lost,
        "by_state": report.tally.by_state,
        "rows": report.rows,
        "connections": report.connections,
        "tally": report.tally,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    (folder / "report.json").write_bytes(orjson.dumps(whole, option=options, default=str))
    (folder / "samples.json").write_bytes(orjson.dumps(samples))
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_line(_cells(row)) for row in report.rows]
    lines += ["", "| | |", "|---|---|", *(_line(pair) for pair in _facts(report))]
    (folder / "report.md").write_text("\n".join(lines) + "\n")


def show(report: Report) -> None:
    console = Console(highlight=False, soft_wrap=True, width=160)
    table = Table(*_COLUMNS)
    for row in report.rows:
        table.add_row(*_cells(row))
    console.print(table)
    for name, value in _facts(report):
        console.print(f"{name}: {value}")
    for complaint in report.complaints:
        console.print(f"✗ {complaint}")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.memory_mb[0]:.1f}",
        f"{row.memory_mb[1]:.1f}",
        str(row.memory_slope or ""),
        _pair(row.handles),
        str(row.handle_slope or ""),
        _pair(row.sockets),
        _pair(row.threads),
        str(row.thread_slope or ""),
        row.verdict.value,
    )


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    tally, connections = report.tally, report.connections
    if connections is not None:
        yield (
            "Postgres connections",
            f"{_pair((connections.first, connections.last))}, {connections.slope} an hour:"
            f" {connections.verdict}",
        )
    yield "clients", ", ".join(f"{kind} {count}" for kind, count in sorted(tally.asked.items()))
    yield (
        "accepted jobs",
        f"{len(tally.states)}: "
        + ", ".join(f"{state} {count}" for state, count in sorted(tally.by_state.items())),
    )
    yield "lost jobs", str(tally.lost)
    yield "synchronous calls answered", str(tally.answered)
    yield "refused with 429", str(tally.refused)
    yield "underway at most", str(tally.most_underway)
    yield "files downloaded", str(tally.downloads)


def _pair(values: tuple[int, int]) -> str:
    return f"{values[0]} → {values[1]}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
