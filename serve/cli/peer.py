"""`sfumato bench served --peer`: the running service beside another server of the same model.

Each of the two is a process of its own on the same device, and idle while the other is measured.
This process draws nothing.
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
import typer
from rich.console import Console

from pipelines.bench.plan import BATCH
from pipelines.bench.trace import Arrival, poisson_trace
from pipelines.diffusion.request import Request
from serve.cli.checks import key_of_service
from serve.cli.comparison import CLIENTS, Client, Pair, Traffic, as_json, percentiles, table
from serve.cli.target import base_url
from serve.settings import Settings

MakeRequests = Callable[[int, int], list[Request]]
"""Of a number of requests and a seed."""
_PAUSE_S = 1.0
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


def run_beside_peer(settings: Settings, peer: str, plan: PeerPlan, json_file: Path | None) -> int:
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
        """Measure all of the plan.

        Raises:
            httpx2.HTTPError: one of the two did not answer, or answered with an error.
            TimeoutError: a pass took longer than the plan allows.
        """
        plan = self._plan
        async with self._peer.http, self._service.http:
            traffic = await self._traffic()
            await self._compare("mixed steps", partial(traffic.mixed, plan.mixed))
            await self._compare(f"{plan.uniform} steps", partial(traffic.uniform, plan.uniform))

    async def _traffic(self) -> Traffic:
        """With the size and the guidance scale of the service's default model."""
        models = await self._service.http.get("/v1/models")
        model = models.raise_for_status().json()["data"][0]
        width, height = map(int, model["default_size"].split("x"))
        return Traffic(width, height, model["default_guidance_scale"])

    async def _compare(self, what: str, make: MakeRequests) -> None:
        pictures = self._plan.pictures
        rates = []
        for client in (self._peer, self._service):
            async with self._pass():
                rates.append(await client.full(make(pictures + 2 * CLIENTS, 0), pictures))
        self.pairs.append(Pair(f"{what}, full batches, pictures/s", *rates))
        for load in self._plan.loads:
            await self._latencies(f"{what} at load {load:g}", make, load * rates[0])

    async def _latencies(self, what: str, make: MakeRequests, rate: float) -> None:
        """A B B A. The first pass of each has the same arrivals, and so has the second."""
        peer: list[float] = []
        served: list[float] = []
        for client, latencies, seed in (
            (self._peer, peer, 0),
            (self._service, served, 0),
            (self._service, served, 1),
            (self._peer, peer, 1),
        ):
            async with self._pass():
                latencies += await client.trace(self._arrivals(make, rate, seed))
        self.pairs += percentiles(f"{what}, {rate:.2f}/s", peer, served)

    def _arrivals(self, make: MakeRequests, rate: float, seed: int) -> Sequence[Arrival]:
        count = max(1, min(self._plan.requests, int(rate * self._plan.seconds)))
        return poisson_trace(make(count, seed), rate, seed)

    @asynccontextmanager
    async def _pass(self) -> AsyncIterator[None]:
        """One of the two alone, for a bounded time."""
        await asyncio.sleep(_PAUSE_S)
        async with asyncio.timeout(self._plan.limit_s):
            yield
