"""A run's verdict, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.chaos.evidence import Violation
from loadtests.chaos.measures import Measures, Spread

_SHOWN = 20


def save(violations: Sequence[Violation], measures: Measures, asked: Any, folder: Path) -> None:
    """report.json with everything, report.md with the table."""
    whole = {"asked": asked, "violations": violations, "measures": asdict(measures)}
    (folder / "report.json").write_bytes(
        orjson.dumps(whole, option=orjson.OPT_INDENT_2, default=str)
    )
    lines = ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows(violations, measures)]
    lines += [""] + [f"- {v.invariant} {v.subject}: {v.detail}" for v in violations]
    (folder / "report.md").write_text("\n".join(lines).rstrip() + "\n")


def show(violations: Sequence[Violation], measures: Measures) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(show_header=False)
    for name, value in rows(violations, measures):
        table.add_row(name, value)
    console.print(table)
    for violation in violations[:_SHOWN]:
        console.print(f"✗ {violation.invariant} {violation.subject}: {violation.detail}")
    if len(violations) > _SHOWN:
        console.print(f"… and {len(violations) - _SHOWN} more in report.json")


def rows(violations: Sequence[Violation], measures: Measures) -> Iterator[tuple[str, str]]:
    """The table."""
    broken = Counter(violation.invariant for violation in violations)
    yield "violations", _counts(broken) or "none"
    yield "jobs", f"{measures.jobs}: {_counts(measures.states)}"
    yield "pictures", str(measures.pictures)
    yield "kills", f"{sum(measures.kills.values())}: {_counts(measures.kills)}"
    yield "faults", _counts(measures.faults)
    yield "COMMITs without an answer", str(measures.commits_dropped)
    yield "failed jobs by reason", _counts(measures.failures) or "none"
    yield "pictures drawn again", f"{measures.repeated_pictures}; crashes {measures.crashes}"
    yield "clients' retries", f"{measures.retries}; never answered {measures.unanswered}"
    yield "WebSockets reopened", str(measures.reconnects)
    yield "files without a row", str(measures.orphans)
    yield "kill to next claim", _spread(measures.reexecution_s)
    yield "cancel to acknowledgement", _spread(measures.cancel_s)
    yield "cancel to its event", _spread(measures.cancel_told_s)
    yield "submit to acceptance", _spread(measures.submit_s)
    if not violations:
        yield "lost jobs, 95 % bound", f"{measures.bound:.2%} (3 / {measures.jobs})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "none seen"
    return (
        f"median {spread.median:.2f} s, p95 {spread.p95:.2f} s, longest {spread.longest:.2f} s"
        f" ({spread.count})"
    )
