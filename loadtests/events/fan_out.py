"""How long an event takes from its commit to clients, by the clock of one machine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import orjson

from loadtests.events.listener import Listener
from loadtests.events.service import FIRST, TERMINAL, Service, cancel, driven, is_durable, submit

_OPENING = 32
_AFTERMATH_S = 5.0


@dataclass(frozen=True)
class Heard:
    """What a durable event says of itself."""

    job_id: str
    type: str
    created_at: float


@lru_cache(maxsize=64)
def _decode(text: bytes) -> Heard | None:
    """Once for all who are told the same."""
    event = orjson.loads(text)
    if not is_durable(event):
        return None
    created_at = datetime.fromisoformat(event["created_at"]).timestamp()
    return Heard(event["job_id"], event["type"], created_at)


class Latencies:
    """Seconds from ``created_at`` to receipt."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.first: list[float] = []
        """Of each job: no other event of it is on the way before."""
        self.terminal: list[float] = []
        self.closed = 0
        """Connections that the server ended."""

    def note(self, received_at: float, event: Heard) -> None:
        took = received_at - event.created_at
        self.all.append(took)
        if event.type == FIRST:
            self.first.append(took)
        if event.type in TERMINAL:
            self.terminal.append(took)

    def __str__(self) -> str:
        return (
            "\n".join(
                f"  {name:15} {len(found):7} received{spread(found)}"
                for name, found in (
                    ("durable events", self.all),
                    ("first events", self.first),
                    ("terminal events", self.terminal),
                )
            )
            + f"\n  closed by the server: {self.closed}"
        )


def spread(found: Sequence[float]) -> str:
    """Where these seconds lie, in milliseconds."""
    return "".join(
        f"  {name} {_at(found, share):7.1f} ms"
        for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))
    )


def _at(found: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return sorted(found)[min(len(found) - 1, int(share * len(found)))] * 1000 if found else 0.0


async def everyone(service: Service, sockets: int, jobs_per_s: float, seconds: float) -> Latencies:
    """Every socket follows all jobs: each event goes to every one of them."""
    latencies = Latencies()
    since = math.inf

    def hear(text: bytes) -> None:
        now = time.time()
        # What was replayed at the start is as old as it is.
        if (event := _decode(text)) is not None and event.created_at > since:
            latencies.note(now, event)

    async with _listening(service, sockets, hear, latencies) as listeners:
        for listener in listeners:
            listener.send('{"type":"watch_all"}')
        await asyncio.sleep(max(5.0, sockets / 100))
        since = time.time()
        async with driven(service, jobs_per_s, steps=1):
            await asyncio.sleep(seconds)
    return latencies


async def each_its_own(
    service: Service, sockets: int, jobs_per_s: float, seconds: float
) -> Latencies:
    """Every socket follows one job after another: an event goes to one of them."""
    latencies = Latencies()
    watched_at: dict[str, float] = {}

    def hear(text: bytes) -> None:
        now = time.time()
        # What was there before the watch is as old as it is.
        if (event := _decode(text)) is not None and event.created_at > watched_at[event.job_id]:
            latencies.note(now, event)

    async def one_job(number: int) -> None:
        job_id = await submit(client)
        watched_at[job_id] = time.time()
        watch = orjson.dumps({"type": "watch", "job_id": job_id})
        listeners[number % sockets].send(watch.decode())
        await asyncio.sleep(0.3)
        if number % 2:
            await cancel(client, job_id)

    async with (
        _listening(service, sockets, hear, latencies) as listeners,
        service.client() as client,
        asyncio.TaskGroup() as jobs,
    ):
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            jobs.create_task(one_job(number))
            number += 7  # spread over the replicas, whatever order they were opened in
            await asyncio.sleep(1 / jobs_per_s)
    return latencies


@asynccontextmanager
async def _listening(
    service: Service, sockets: int, hear: Callable[[bytes], None], latencies: Latencies
) -> AsyncIterator[list[Listener]]:
    """Meanwhile and a moment longer; then those that the server closed are counted."""
    gate = asyncio.Semaphore(_OPENING)

    async def one() -> None:
        async with gate:
            listeners.append(await Listener.open(service, hear))

    listeners: list[Listener] = []
    try:
        await asyncio.gather(*(one() for _ in range(sockets)))
        yield listeners
        await asyncio.sleep(_AFTERMATH_S)
        latencies.closed = sum(listener.closed.done() for listener in listeners)
    finally:
        for listener in listeners:
            listener.abort()
