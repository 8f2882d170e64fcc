"""`sfumato bench served --peer`: the running service beside another server of the same model.

Nothing is drawn in this process. Each of the two has a process of its own on the same device, and
is idle while the other is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx2
import numpy as np
import typer
from rich.console import Console

from pipelines.bench.plan import BATCH
from pipelines.bench.trace import Arrival, poisson_trace
from pipelines.diffusion.request import Request
from serve.cli.checks import key_of_service
from serve.cli.client import CLIENTS, Client
from serve.cli.pairs import Pair, as_json, table
from serve.cli.target import base_url
from serve.cli.traffic import Traffic
from serve.settings import Settings

Ask = Callable[[int, int], list[Request]]
"""So many requests, by a seed."""
_SETTLE_S = 1.0
"""Between two passes, for what is still to be written of the last one."""


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """Two kinds of traffic: ``mixed`` numbers of steps, and ``uniform`` ones.

    Load 1 is the peer's capacity, counted over ``pictures``, a multiple of 8. A pass of a trace has
    ``requests``, or as many as are due within ``seconds`` if these are fewer. A pass that takes
    longer than ``limit_s`` seconds ends the run.
    """

    mixed: tuple[int, ...] = (4, 20, 50)
    uniform: int = 20
    loads: tuple[float, ...] = (0.3, 0.6, 0.85)
    pictures: int = 5 * BATCH
    requests: int = 54
    seconds: float = 90.0
    limit_s: float = 300.0

    def quick(self) -> PeerPlan:
        """The same with little of each, to see that it runs; its figures mean nothing."""
        return replace(self, mixed=(1, 2, 3), uniform=2, loads=(0.6,), pictures=BATCH, requests=9)


def run(settings: Settings, peer: str, plan: PeerPlan, json_file: Path | None) -> int:
    """Print the table, as far as it was measured; the exit status."""
    key = key_of_service(settings)
    bench = PeerBench(Client(peer), Client(base_url(settings), key), plan)
    problem = None
    try:
        asyncio.run(bench.measure())
    except httpx2.HTTPError as error:
        problem = f"The service or the peer does not answer: {error!r}."
    except TimeoutError:
        problem = f"A pass took longer than {plan.limit_s:g} s."
    if bench.pairs:
        Console(highlight=False).print(table("peer", bench.pairs))
    if json_file is not None:
        json_file.write_text(json.dumps({"pairs": as_json(bench.pairs)}, indent=1))
    if problem is not None:
        typer.echo(problem, err=True)
    return 0 if problem is None else 1


class PeerBench:
    """``pairs`` are what was measured so far."""

    def __init__(self, peer: Client, service: Client, plan: PeerPlan) -> None:
        self._peer = peer
        self._service = service
        self._plan = plan
        self.pairs: list[Pair] = []

    async def measure(self) -> None:
        """All of the plan.

        Raises:
            httpx2.HTTPError: one of the two did not answer, or not by a picture.
            TimeoutError: a pass took longer than the plan allows.
        """
        plan = self._plan
        async with self._peer.http, self._service.http:
            traffic = await self._traffic()
            await self._beside("mixed steps", partial(traffic.mixed, plan.mixed))
            await self._beside(f"{plan.uniform} steps", partial(traffic.uniform, plan.uniform))

    async def _traffic(self) -> Traffic:
        """Of the size and the guidance that the service's default model has."""
        models = await self._service.http.get("/v1/models")
        model = models.raise_for_status().json()["data"][0]
        width, height = map(int, model["default_size"].split("x"))
        return Traffic(width, height, model["default_guidance_scale"])

    async def _beside(self, what: str, ask: Ask) -> None:
        peer, served = [await self._full(each, ask) for each in (self._peer, self._service)]
        self.pairs.append(Pair(f"{what}, full batches, pictures/s", peer, served))
        for load in self._plan.loads:
            await self._latencies(f"{what} at load {load:g}", ask, load * peer)

    async def _full(self, client: Client, ask: Ask) -> float:
        pictures = self._plan.pictures
        async with self._pass():
            return await client.full(ask(pictures + 2 * CLIENTS, 0), pictures)

    async def _latencies(self, what: str, ask: Ask, rate: float) -> None:
        """A B B A; the first pass of each has the same arrivals, and so has the second."""
        peer: list[float] = []
        served: list[float] = []
        for client, found, seed in (
            (self._peer, peer, 0),
            (self._service, served, 0),
            (self._service, served, 1),
            (self._peer, peer, 1),
        ):
            async with self._pass():
                found += await client.trace(self._arrivals(ask, rate, seed))
        for percent in (50, 95):
            both = (float(np.percentile(each, percent)) for each in (peer, served))
            self.pairs.append(Pair(f"{what}, {rate:.2f}/s, p{percent}, s", *both))

    def _arrivals(self, ask: Ask, rate: float, seed: int) -> Sequence[Arrival]:
        count = max(1, min(self._plan.requests, int(rate * self._plan.seconds)))
        return poisson_trace(ask(count, seed), rate, seed)

    @asynccontextmanager
    async def _pass(self) -> AsyncIterator[None]:
        """One target alone, for a bounded time."""
        await asyncio.sleep(_SETTLE_S)
        async with asyncio.timeout(self._plan.limit_s):
            yield
