"""``python -m loadtests.chaos``: one run and its verdict; exit status 1 on a violation."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from loadtests.chaos.checker import check
from loadtests.chaos.evidence import Evidence, Violation
from loadtests.chaos.history import read_history
from loadtests.chaos.measures import Measures, measure
from loadtests.chaos.report import save, show
from loadtests.chaos.run import HISTORY, SNAPSHOT, Options, run
from loadtests.chaos.schedule import TooShort
from loadtests.chaos.snapshot import read_snapshot
from loadtests.up import StartFailed


def main() -> int:
    """The exit status: 0 clean, 1 a violation, 2 no run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of schedule and jobs")
    parser.add_argument("--jobs", type=int, default=300, help="at the steady rate; bursts add more")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=4.0, help="of load and faults")
    parser.add_argument("--out", type=Path, default=Path("chaos-out"), help="what the run leaves")
    parser.add_argument("--check", action="store_true", help="only check what a run left in OUT")
    asked = parser.parse_args()
    if not asked.check:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is put away
        options = Options(asked.seed, asked.jobs, asked.kills, asked.minutes, asked.out)
        try:
            asyncio.run(run(options))
        except (TooShort, StartFailed) as error:
            sys.stderr.write(f"{error}\n")
            return 2
    violations, measures = judge(asked.out)
    save(violations, measures, asdict(options) if not asked.check else None, asked.out)
    show(violations, measures)
    return 1 if violations else 0


def judge(folder: Path) -> tuple[list[Violation], Measures]:
    """The verdict on what a run left in the folder."""
    history = list(read_history(folder / HISTORY))
    snapshot = read_snapshot(folder / SNAPSHOT)
    return check(history, snapshot), measure(Evidence(history, snapshot))


if __name__ == "__main__":
    sys.exit(main())
