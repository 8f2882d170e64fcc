"""An even load by clients of every kind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from time import monotonic

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from loadtests.chaos.evidence import TERMINAL as ENDED
from loadtests.events.service import TERMINAL, Acknowledgements, Service, cancel

_PROMPTS = ("red heart", "a cat", "blue dog", "a house", "green apple", "a star")
_STEPS = (4, 20)
_PATIENCE_S = 120.0
"""Of one client, from asking to the end."""
_BROWSE_EVERY_S = 15.0
_IDLE_SOCKETS = 6


class Kind(StrEnum):
    """How a client asks and hears of the end."""

    WEBSOCKET = "followed by WebSocket"
    SSE = "followed by Server-Sent Events"
    CANCEL = "cancelled"
    SYNCHRONOUS = "synchronous"


_KINDS = (Kind.WEBSOCKET,) * 9 + (Kind.SSE,) * 4 + (Kind.CANCEL,) * 3 + (Kind.SYNCHRONOUS,) * 4


@dataclass
class Tally:
    """What the clients saw."""

    asked: Counter[Kind] = field(default_factory=Counter)
    states: dict[str, str] = field(default_factory=dict)
    """Of every job that was accepted, by id, as last seen."""
    answered: int = 0
    """Synchronous calls that brought their picture."""
    refused: int = 0
    """With 429."""
    downloads: int = 0
    idle_closed: int = 0
    """Idle WebSockets that did not stay open."""
    most_underway: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Clients without a definite answer, or not told of the end, by reason."""

    @property
    def by_state(self) -> Counter[str]:
        return Counter(self.states.values())

    @property
    def lost(self) -> int:
        """Accepted jobs that have not ended."""
        return sum(state not in ENDED for state in self.states.values())


class Load:
    """Jobs at an even rate; the same seed asks for the same."""

    def __init__(self, service: Service, jobs_per_s: float, seed: int) -> None:
        self.tally = Tally()
        self._service = service
        self._rate = jobs_per_s
        self._chance = random.Random(seed)
        self._underway = 0

    async def run(self, seconds: float) -> None:
        """Ask for so long, then wait until each job has ended or its client's patience."""
        async with self._service.client() as client, self._idle_sockets():
            browsing = asyncio.create_task(self._browse(client))
            try:
                async with asyncio.TaskGroup() as clients:
                    began, number = monotonic(), 0
                    while number / self._rate < seconds:
                        await asyncio.sleep(max(0.0, began + number / self._rate - monotonic()))
                        kind, steps = self._chance.choice(_KINDS), self._chance.randint(*_STEPS)
                        clients.create_task(self._one(client, kind, steps))
                        number += 1
            finally:
                browsing.cancel()
                await asyncio.gather(browsing, return_exceptions=True)
            await self._look_at_the_rest(client)

    async def _one(self, client: httpx2.AsyncClient, kind: Kind, steps: int) -> None:
        self.tally.asked[kind] += 1
        self._underway += 1
        self.tally.most_underway = max(self.tally.most_underway, self._underway)
        body = {"prompt": self._chance.choice(_PROMPTS), "num_inference_steps": steps}
        pause_s = self._chance.uniform(0, 1)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if kind is Kind.SYNCHRONOUS:
                    await self._generate(client, body)
                else:
                    await self._submit(client, kind, body, pause_s)
        except (httpx2.HTTPError, WebSocketException, OSError, EOFError) as error:
            self.tally.faults[f"{kind}: {type(error).__name__}"] += 1
        finally:
            self._underway -= 1

    async def _generate(self, client: httpx2.AsyncClient, body: dict[str, object]) -> None:
        answer = await client.post("/v1/images/generations", json=body, timeout=_PATIENCE_S)
        if self._accepted(answer):
            self.tally.answered += len(answer.json()["data"])

    async def _submit(
        self, client: httpx2.AsyncClient, kind: Kind, body: dict[str, object], pause_s: float
    ) -> None:
        answer = await client.post("/v1/jobs", json=body)
        if not self._accepted(answer):
            return
        job_id: str = answer.json()["id"]
        self.tally.states[job_id] = answer.json()["state"]
        if kind is Kind.CANCEL:
            await asyncio.sleep(pause_s)
            await cancel(client, job_id)
        elif kind is Kind.SSE:
            await follow_stream(client, job_id)
        else:
            await follow_socket(self._service, job_id)
        await self._note_state(client, job_id)

    def _accepted(self, answer: httpx2.Response) -> bool:
        """Whether it was; a 429 is an answer too.

        Raises:
            HTTPStatusError: it was refused otherwise.
        """
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self.tally.refused += 1
            return False
        answer.raise_for_status()
        return True

    async def _note_state(self, client: httpx2.AsyncClient, job_id: str) -> None:
        answer = await client.get(f"/v1/jobs/{job_id}")
        answer.raise_for_status()
        self.tally.states[job_id] = answer.json()["state"]

    async def _look_at_the_rest(self, client: httpx2.AsyncClient) -> None:
        """Jobs whose clients lost sight of them; what cannot be seen stays as it was."""
        for job_id, state in self.tally.states.items():
            if state not in ENDED:
                with suppress(httpx2.HTTPError):
                    await self._note_state(client, job_id)

    async def _browse(self, client: httpx2.AsyncClient) -> None:
        """The gallery, now and then: its page, its list, and the newest pictures' files."""
        while True:
            await asyncio.sleep(_BROWSE_EVERY_S)
            try:
                (await client.get("/")).raise_for_status()
                listed = (await client.get("/v1/jobs", params={"limit": 20})).raise_for_status()
                done = [job for job in listed.json()["data"] if job["state"] == "succeeded"]
                for image in (image for job in done[:3] for image in job["images"]):
                    for variant in image["variants"]:
                        (await client.get(variant["url"])).raise_for_status()
                        self.tally.downloads += 1
            except httpx2.HTTPError as error:
                self.tally.faults[f"gallery: {type(error).__name__}"] += 1

    @asynccontextmanager
    async def _idle_sockets(self) -> AsyncIterator[None]:
        """WebSockets that ask for nothing and stay."""
        sockets = [await self._service.socket() for _ in range(_IDLE_SOCKETS)]
        try:
            yield
        finally:
            self.tally.idle_closed = sum(socket.close_code is not None for socket in sockets)
            await asyncio.gather(*(socket.close() for socket in sockets))


async def follow_socket(service: Service, job_id: str) -> None:
    """Read and acknowledge until the job's end is told.

    Raises:
        EOFError: the connection ended before.
    """
    async with service.socket() as socket:
        await socket.send(orjson.dumps({"type": "watch", "job_id": job_id, "after": 0}), text=True)
        await _read_to_end(socket)


async def _read_to_end(socket: ClientConnection) -> None:
    acknowledgements = Acknowledgements()
    async for text in socket:
        if orjson.loads(text)["type"] in TERMINAL:
            return
        if (due := acknowledgements.received()) is not None:
            await socket.send(due)
    raise EOFError("The WebSocket ended before the job did.")


async def follow_stream(client: httpx2.AsyncClient, job_id: str) -> None:
    """Read Server-Sent Events until the job's end is told.

    Raises:
        EOFError: the stream ended before.
    """
    path = f"/v1/jobs/{job_id}/events"
    async with client.stream("GET", path, timeout=_PATIENCE_S) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("event: ") and line.removeprefix("event: ") in TERMINAL:
                return
    raise EOFError("The stream ended before the job did.")
