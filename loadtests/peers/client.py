"""Asks one arm: a picture alone, as much as it can draw, and a trace of arrivals."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Self

import aiohttp
import orjson
from PIL import Image

from loadtests.peers.arms import Address, ArmFailed
from pipelines.bench.trace import Arrival
from pipelines.diffusion.request import Request
from serve.cli.comparison import body

PATH = "/v1/images/generations"
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What one request of a trace met with.

    ``due`` is in seconds from the trace's start. ``seconds`` count from then to the picture.
    Without one (it was not ``drawn`` by the deadline, or was refused) they count to the deadline,
    and are a lower bound.
    """

    due: float
    steps: int
    seconds: float
    drawn: bool


class Client:
    """A context manager. Pictures are decoded after they have been timed."""

    def __init__(self, address: Address, size: int) -> None:
        self._address = address
        self._size = size
        self._unseen: list[bytes] = []

    async def __aenter__(self) -> Self:
        key = self._address.key
        self._http = aiohttp.ClientSession(
            self._address.url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def draw(self, request: Request) -> float:
        """Seconds from asking to the whole answer.

        Raises:
            aiohttp.ClientError: no answer, or one that is an error.
        """
        asked: dict[str, Any] = body(request.params)
        began = time.perf_counter()
        payload = {"asked": [asked]} if self._address.lists else asked
        async with self._http.post(PATH, json=payload) as answer:
            answer.raise_for_status()
            text = await answer.read()
        seconds = time.perf_counter() - began
        self._unseen.append(text)
        return seconds

    async def wait_until_it_draws(self, request: Request) -> None:
        """Ask until a picture comes.

        Raises:
            ArmFailed: none comes in two minutes.
        """
        until = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    await self.draw(request)
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() > until:
                    raise ArmFailed(
                        f"It drew nothing in {_START_TIMEOUT_S:g} s: {error}"
                    ) from error
                await asyncio.sleep(0.2)
            else:
                return

    async def alone(self, requests: Sequence[Request]) -> float:
        """The median of seconds, one request after another."""
        return median([await self.draw(request) for request in requests])

    async def several(self, requests: Iterable[Request], clients: int) -> None:
        """All of them, so many at a time."""
        source = iter(requests)

        async def ask() -> None:
            for request in source:
                await self.draw(request)

        await asyncio.gather(*(ask() for _ in range(clients)))

    async def saturate(
        self, requests: Sequence[Request], clients: int, pictures: int, limit_s: float
    ) -> float:
        """Pictures a second for clients that ask again once they are served.

        The first picture of each client does not count: the batches fill meanwhile. It ends after
        ``pictures`` more, or after ``limit_s``. A picture counts by its share of the mean steps:
        those that end within the time may be shorter or longer than most, by the server's order.

        Raises:
            ArmFailed: too few came in that time.
        """
        source = iter(requests)
        ended: list[tuple[float, int]] = []

        async def ask() -> None:
            while len(ended) < clients + pictures:
                request = next(source)
                await self.draw(request)
                ended.append((time.perf_counter(), request.params.num_inference_steps))

        asking = [asyncio.ensure_future(ask()) for _ in range(clients)]
        done, late = await asyncio.wait(
            asking, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION
        )
        await _cancel(late)
        for each in done:
            each.result()
        counted = ended[clients - 1 : clients + pictures]
        if len(counted) < 2:
            raise ArmFailed(
                f"It drew {len(ended)} pictures for {clients} clients in {limit_s:g} s."
            )
        mean_steps = mean(each.params.num_inference_steps for each in requests)
        steps = sum(steps for _, steps in counted[1:])
        return steps / mean_steps / (counted[-1][0] - counted[0][0])

    async def replay(self, arrivals: Sequence[Arrival], limit_s: float) -> list[Sample]:
        """One for each arrival; what is not drawn after ``limit_s`` from the start is given up."""
        began = time.perf_counter()

        async def ask(arrival: Arrival) -> float:
            await asyncio.sleep(max(0.0, began + arrival.at - time.perf_counter()))
            await self.draw(arrival.request)
            return time.perf_counter() - began - arrival.at

        asking = [asyncio.ensure_future(ask(arrival)) for arrival in arrivals]
        _, late = await asyncio.wait(asking, timeout=limit_s)
        await _cancel(late)
        return [
            _sample(arrival, each, limit_s) for arrival, each in zip(arrivals, asking, strict=True)
        ]

    def look(self) -> int:
        """Decode the pictures that came since the last time; how many there were.

        Raises:
            ArmFailed: one is not a PNG of the size.
        """
        unseen, self._unseen = self._unseen, []
        for text in unseen:
            with Image.open(io.BytesIO(self._png(text))) as image:
                image.load()
                if (image.format, image.size) != ("PNG", (self._size, self._size)):
                    raise ArmFailed(f"It sent a {image.format} of {image.size} pixels.")
        return len(unseen)

    def _png(self, text: bytes) -> bytes:
        answer = orjson.loads(text)
        encoded = answer[0] if self._address.lists else answer["data"][0]["b64_json"]
        return base64.b64decode(encoded)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _sample(arrival: Arrival, asked: asyncio.Future[float], limit_s: float) -> Sample:
    drawn = not asked.cancelled() and asked.exception() is None
    seconds = asked.result() if drawn else limit_s - arrival.at
    return Sample(arrival.at, arrival.request.params.num_inference_steps, seconds, drawn)
