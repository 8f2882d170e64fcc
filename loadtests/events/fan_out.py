"""How long an event takes from its commit to clients, by the clock of one machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from loadtests.events.service import (
    FIRST,
    TERMINAL,
    Acknowledging,
    Service,
    cancel,
    driven,
    is_durable,
    submit,
)

_OPENING = 32
_AFTERMATH_S = 5.0


class Latencies:
    """Seconds from ``created_at`` to receipt."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self.first: list[float] = []
        """Of each job: no other event of it is on the way before."""
        self.terminal: list[float] = []
        self.closed = 0
        """Connections that the server ended."""

    def note(self, received_at: float, event: dict[str, str]) -> None:
        took = received_at - _created_at(event)
        self.all.append(took)
        if event["type"] == FIRST:
            self.first.append(took)
        if event["type"] in TERMINAL:
            self.terminal.append(took)

    def __str__(self) -> str:
        return (
            "\n".join(
                f"  {name:15} {len(found):7} received"
                f"  p50 {_at(found, 0.5):7.1f} ms  p99 {_at(found, 0.99):7.1f} ms"
                f"  most {max(found, default=0) * 1000:7.1f} ms"
                for name, found in (
                    ("durable events", self.all),
                    ("first events", self.first),
                    ("terminal events", self.terminal),
                )
            )
            + f"\n  closed by the server: {self.closed}"
        )


def _at(found: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return sorted(found)[min(len(found) - 1, int(share * len(found)))] * 1000 if found else 0.0


def _created_at(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["created_at"]).timestamp()


async def everyone(service: Service, sockets: int, jobs_per_s: float, seconds: float) -> Latencies:
    """Every socket follows all jobs: each event goes to every one of them."""
    latencies = Latencies()

    async def listen(socket: ClientConnection) -> None:
        acknowledging = Acknowledging(socket)
        try:
            async for text in socket:
                now = time.time()
                event = orjson.loads(text)
                # What was replayed at the start is as old as it is.
                if is_durable(event) and _created_at(event) > since:
                    latencies.note(now, event)
                await acknowledging.received()
        except ConnectionClosed:
            pass
        latencies.closed += not ending

    ending = False
    async with AsyncExitStack() as opened:
        connections = await _open(service, sockets, opened)
        for socket in connections:
            await socket.send('{"type":"watch_all"}')
        await asyncio.sleep(max(5.0, sockets / 100))
        since = time.time()
        listening = [asyncio.create_task(listen(socket)) for socket in connections]
        async with driven(service, jobs_per_s, steps=1):
            await asyncio.sleep(seconds)
        await asyncio.sleep(_AFTERMATH_S)
        ending = True
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    return latencies


async def each_its_own(
    service: Service, sockets: int, jobs_per_s: float, seconds: float
) -> Latencies:
    """Every socket follows one job after another: an event goes to one of them."""
    latencies = Latencies()

    async def listen(socket: ClientConnection) -> None:
        acknowledging = Acknowledging(socket)
        with suppress(ConnectionClosed):
            async for text in socket:
                now = time.time()
                event = orjson.loads(text)
                # What was there before the watch is as old as it is.
                if is_durable(event) and _created_at(event) > watched_at[event["job_id"]]:
                    latencies.note(now, event)
                await acknowledging.received()
        latencies.closed += not ending

    async def one_job(number: int) -> None:
        job_id = await submit(client)
        socket = connections[number % sockets]
        watched_at[job_id] = time.time()
        await socket.send(orjson.dumps({"type": "watch", "job_id": job_id}), text=True)
        await asyncio.sleep(0.3)
        if number % 2:
            await cancel(client, job_id)

    watched_at: dict[str, float] = {}
    ending = False
    async with AsyncExitStack() as opened, service.client() as client, asyncio.TaskGroup() as jobs:
        connections = await _open(service, sockets, opened)
        listening = [asyncio.create_task(listen(socket)) for socket in connections]
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            jobs.create_task(one_job(number))
            number += 7  # spread over the replicas, whatever order they were opened in
            await asyncio.sleep(1 / jobs_per_s)
        await asyncio.sleep(_AFTERMATH_S)
        ending = True
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    return latencies


async def _open(service: Service, sockets: int, opened: AsyncExitStack) -> list[ClientConnection]:
    gate = asyncio.Semaphore(_OPENING)

    async def one() -> ClientConnection:
        async with gate:
            socket = await service.socket()
        opened.push_async_callback(_drop, socket)
        return socket

    return list(await asyncio.gather(*(one() for _ in range(sockets))))


async def _drop(socket: ClientConnection) -> None:
    """Without the closing handshake: thousands of them would take a while."""
    socket.transport.abort()
