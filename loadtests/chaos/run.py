"""One run: the service, its clients, the faults, and what was left in the end."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psutil

from loadtests.chaos.clients import Load
from loadtests.chaos.history import History
from loadtests.chaos.injector import inject_all
from loadtests.chaos.plans import make_plans
from loadtests.chaos.processes import ray_logs
from loadtests.chaos.sampler import sample
from loadtests.chaos.schedule import make_schedule, save_schedule
from loadtests.chaos.service import KEY, Service, running
from loadtests.chaos.snapshot import connect, live_images, take_snapshot

HISTORY = "history.jsonl"
SNAPSHOT = "snapshot.json"
SCHEDULE = "schedule.json"
_LOGS = ("up.log", "data/logs/postgres.log", "data/logs/valkey.log")


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for."""

    seed: int
    jobs: int
    kills: int
    minutes: float
    """Of load and faults; starting, settling and checking come on top."""
    out: Path
    patience_s: float = 90.0
    """Once the last fault is healed: how long nothing may come to an end before it is given up."""


async def run(options: Options) -> None:
    """Leaves schedule, history and snapshot in ``out`` for the checker.

    Raises:
        TooShort: the kills do not fit into the minutes.
        StartFailed: the service did not come up.
    """
    schedule = make_schedule(options.seed, options.kills, options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (HISTORY, SNAPSHOT):
        (options.out / name).unlink(missing_ok=True)
    save_schedule(schedule, options.out / SCHEDULE)
    with History(options.out / HISTORY) as history:
        async with running({}) as service:
            load = Load(
                make_plans(options.seed),
                options.jobs / (options.minutes * 60),
                url=service.proxied_url,
                key=KEY,
                history=history,
                patience_s=options.minutes * 60 + options.patience_s,
            )
            sampling = asyncio.create_task(sample(lambda: service.postgres_sockets, history))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(load.run(options.jobs))
                    group.create_task(inject_all(schedule, service, load, history))
                await load.settle(options.patience_s)
                await _settle(service.postgres_sockets, options.patience_s)
            finally:
                sampling.cancel()
                _keep_logs(service, options.out)
            # The files are read while the service still runs: its disk goes with it.
            connection = await connect(service.postgres_sockets)
            snapshot = await take_snapshot(connection, service.pictures)
            await connection.close()
            snapshot.save(options.out / SNAPSHOT)


def _keep_logs(service: Service, out: Path) -> None:
    for name in _LOGS:
        shutil.copy(service.folder / name, out)
    for log in service.data.glob("standby-*/logs/postgres.log"):
        shutil.copy(log, out / f"{log.parents[1].name}.log")
    # Ray's, with what every replica said, dead ones too.
    shutil.rmtree(out / "ray", ignore_errors=True)
    with suppress(LookupError, psutil.NoSuchProcess):  # `up` itself may have died
        shutil.copytree(ray_logs(service.up.pid), out / "ray")


async def _settle(sockets: Path, patience_s: float) -> None:
    """Wait for jobs whose clients have left, as long as pictures come to an end.

    What has not ended by then is for the checker.
    """
    connection = await connect(sockets)
    left, since = await live_images(connection), monotonic()
    while left and monotonic() - since < patience_s:
        await asyncio.sleep(0.5)
        if (now := await live_images(connection)) != left:
            left, since = now, monotonic()
    await connection.close()
