"""``python -m loadtests.soak``: one run and its verdict; exit status 1 where something grows."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from loadtests.events.service import Service
from loadtests.soak.clients import Load
from loadtests.soak.report import Report, judge, save, show
from loadtests.soak.sampler import Sampler
from loadtests.soak.service import find_up, started
from loadtests.soak.slope import FEWEST
from loadtests.up import StartFailed


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for."""

    url: str | None
    """Of a running service on this machine; None starts one."""
    minutes: float
    warm_up_minutes: float
    """Of the minutes, those that are not judged."""
    jobs_per_s: float
    every_s: float
    seed: int
    out: Path


def main() -> int:
    """The exit status: 0 flat, 1 something grows, ended or was lost, 2 no run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    parser.add_argument("--url", help="a running service on this machine; SFUMATO_API_KEY opens it")
    parser.add_argument("--minutes", type=float, default=20.0, help="of load, warm-up included")
    parser.add_argument("--warm-up-minutes", type=float, default=5.0)
    parser.add_argument("--jobs-per-s", type=float, default=0.5)
    parser.add_argument("--every-s", type=float, default=10.0, help="between samples")
    parser.add_argument("--seed", type=int, default=1, help="of the clients")
    parser.add_argument("--out", type=Path, default=Path("soak-out"), help="what the run leaves")
    options = Options(**vars(parser.parse_args()))
    if (options.minutes - options.warm_up_minutes) * 60 < FEWEST * options.every_s:
        parser.error(f"after the warm-up there must be time for {FEWEST} samples")
    if options.url is not None and "SFUMATO_API_KEY" not in os.environ:
        parser.error("set SFUMATO_API_KEY to a key of the service at --url")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is put away
    try:
        report = asyncio.run(soak(options))
    except (LookupError, StartFailed, psutil.AccessDenied) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    show(report)
    return 1 if report.complaints else 0


async def soak(options: Options) -> Report:
    """Load and sample for the minutes; the report is in ``out`` too.

    Raises:
        StartFailed: the service did not come up.
        LookupError: no service of this machine listens at the address.
    """
    async with AsyncExitStack() as parts:
        if options.url is None:
            service, root = await parts.enter_async_context(started())
        else:
            service = Service(options.url, os.environ["SFUMATO_API_KEY"])
            root = find_up(options.url)
        load, sampler = Load(service, options.jobs_per_s, options.seed), Sampler(root)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(options.minutes * 60))
            sampling = group.create_task(sampler.run(options.minutes * 60, options.every_s))
    samples = sampling.result()
    report = judge(samples, load.tally, options.warm_up_minutes * 60)
    save(report, samples, asdict(options), options.out)
    return report


if __name__ == "__main__":
    sys.exit(main())
