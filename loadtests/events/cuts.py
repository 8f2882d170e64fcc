"""Connections cut at a random byte, and whether resuming brings each event once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from loadtests.events.service import (
    TERMINAL,
    Acknowledgements,
    Service,
    cancel,
    is_durable,
    submit,
)

_JOBS_AT_ONCE = 6
_CHUNK = 4096
_LONGEST_S = 60.0
"""Of jobs from their submission to the end that the follower hears of."""


class Cutter:
    """A TCP relay that ends each connection after a random number of bytes towards the client."""

    def __init__(self, url: str, longest: int, seed: int) -> None:
        target = urlsplit(url)
        self._host, self._port = target.hostname, target.port
        self._longest = longest
        self._random = random.Random(seed)
        self.cuts = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its own WebSocket address."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}/v1/events"

    async def _relay(self, near: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        far, into = await asyncio.open_connection(self._host, self._port)
        upward = asyncio.create_task(_copy(near, into))
        try:
            left = self._random.randint(1, self._longest)
            while data := await far.read(min(_CHUNK, left)):
                out.write(data)
                await out.drain()
                left -= len(data)
                if left <= 0:
                    self.cuts += 1
                    break
        except ConnectionError:
            pass
        finally:
            upward.cancel()
            out.transport.abort()
            into.transport.abort()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()


@dataclass
class Account:
    """What a client was told of each of its jobs, over all its connections."""

    seqs: dict[str, list[int]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    connections: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def all_ended(self, jobs: Iterable[str]) -> None:
        """Return once the end of each was told."""
        while not self.ended.issuperset(jobs):
            self.changed.clear()
            await self.changed.wait()

    def faults(self, last_seqs: dict[str, int]) -> tuple[int, int]:
        """Events that never came, and events that came once more."""
        gaps = doubles = 0
        for job_id, last in last_seqs.items():
            seqs = self.seqs.get(job_id, [])
            gaps += len(set(range(1, last + 1)) - set(seqs))
            doubles += len(seqs) - len(set(seqs))
        return gaps, doubles


@dataclass
class Result:
    """Of all clients together."""

    cuts: int
    handshakes: int = 0
    jobs: int = 0
    events: int = 0
    gaps: int = 0
    doubles: int = 0

    def __str__(self) -> str:
        return (
            f"  {self.cuts} cuts, {self.handshakes} connections, {self.jobs} jobs,"
            f" {self.events} durable events: {self.gaps} gaps, {self.doubles} doubles"
        )


class Follower:
    """A client that follows its jobs through cuts, and resumes each by its last number."""

    def __init__(self, service: Service, url: str) -> None:
        self.account = Account()
        self._service = service
        self._url = url
        self._socket: ClientConnection | None = None

    async def follow(self, job_id: str) -> None:
        """Follow this job too, on this connection and all later ones."""
        self.account.seqs[job_id] = []
        if self._socket is not None:
            await self._watch(self._socket, job_id)

    async def run(self) -> None:
        """Connect, read, be cut, and connect again, until cancelled."""
        while True:
            with contextlib.suppress(OSError, EOFError, ConnectionClosed, InvalidHandshake):
                async with self._service.socket(self._url) as socket:
                    self.account.connections += 1
                    await self._read(socket)
            self._socket = None

    async def _read(self, socket: ClientConnection) -> None:
        acknowledgements = Acknowledgements()
        for job_id in [*self.account.seqs]:
            if job_id not in self.account.ended:
                await self._watch(socket, job_id)
        self._socket = socket
        async for text in socket:
            event = orjson.loads(text)
            if is_durable(event):
                self.account.seqs[event["job_id"]].append(event["seq"])
                if event["type"] in TERMINAL:
                    self.account.ended.add(event["job_id"])
                    self.account.changed.set()
            if (due := acknowledgements.received()) is not None:
                await socket.send(due)

    async def _watch(self, socket: ClientConnection, job_id: str) -> None:
        after = max(self.account.seqs[job_id], default=0)
        with contextlib.suppress(ConnectionClosed):
            await socket.send(
                orjson.dumps({"type": "watch", "job_id": job_id, "after": after}), text=True
            )


async def resume(
    service: Service, cuts: int, longest: int = 1500, seed: int = 1, followers: int = 8
) -> Result:
    """Follow jobs through so many cuts, at a random byte of ``longest`` at most."""
    cutter = Cutter(service.url, longest, seed)
    async with cutter.listening() as url, service.client() as client:
        clients = [Follower(service, url) for _ in range(followers)]
        running = [asyncio.create_task(follower.run()) for follower in clients]
        await asyncio.gather(*(_drive(client, follower, cutter, cuts) for follower in clients))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        result = Result(cuts=cutter.cuts)
        for follower in clients:
            account = follower.account
            last_seqs = {
                job_id: (await client.get(f"/v1/jobs/{job_id}")).json()["last_seq"]
                for job_id in account.seqs
            }
            gaps, doubles = account.faults(last_seqs)
            result.gaps += gaps
            result.doubles += doubles
            result.jobs += len(last_seqs)
            result.events += sum(last_seqs.values())
            result.handshakes += account.connections
    return result


async def _drive(client: httpx2.AsyncClient, follower: Follower, cutter: Cutter, cuts: int) -> None:
    """Give the follower jobs, and see each to its end, until there were enough cuts."""
    while cutter.cuts < cuts:
        jobs = [await submit(client, steps=4) for _ in range(_JOBS_AT_ONCE)]
        for job_id in jobs:
            await follower.follow(job_id)
        for job_id in jobs[::2]:
            await cancel(client, job_id)
        async with asyncio.timeout(_LONGEST_S):
            await follower.account.all_ended(jobs)
