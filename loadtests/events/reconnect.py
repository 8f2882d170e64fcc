"""How long clients that all come at once wait until each has resumed, as after a redeploy."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import orjson

from loadtests.events.fan_out import spread
from loadtests.events.listener import Listener
from loadtests.events.service import TERMINAL, Service, cancel, submit

_JOBS = 50
_AT_ONCE = 256
"""Handshakes: the kernel keeps no more waiting connections than a few hundred for certain."""
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Result:
    """Seconds from the first client's coming until each was told what it had missed."""

    resumed: list[float]
    sockets: int

    def __str__(self) -> str:
        return f"  {len(self.resumed)} of {self.sockets} resumed{spread(self.resumed)}"


async def storm(service: Service, sockets: int, settle_s: float = 5.0) -> Result:
    """Each follows one of fifty jobs that ended while it was away, and hears of that end."""
    async with service.client() as client:
        jobs = [await submit(client) for _ in range(_JOBS)]
        for job_id in jobs:
            await cancel(client, job_id)
    await asyncio.sleep(settle_s)  # nothing is left of that work
    gate = asyncio.Semaphore(_AT_ONCE)
    resumed: list[float] = []
    listeners: list[Listener] = []
    began = time.monotonic()

    async def one(job_id: str) -> None:
        told = asyncio.Event()

        def hear(text: bytes) -> None:
            if orjson.loads(text).get("type") in TERMINAL:
                resumed.append(time.monotonic() - began)
                told.set()

        async with gate:
            listener = await Listener.open(service, hear)
        listeners.append(listener)
        listener.send(f'{{"type":"watch","job_id":"{job_id}","after":1}}')
        await told.wait()

    try:
        async with asyncio.timeout(_LONGEST_S), asyncio.TaskGroup() as clients:
            for number in range(sockets):
                clients.create_task(one(jobs[number % _JOBS]))
    except TimeoutError:
        pass  # how many came back is told
    finally:
        for listener in listeners:
            listener.abort()
    return Result(resumed, sockets)
