"""What the benchmarks of a running service share: the requests, their client, the figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2
import numpy as np
from rich.table import Table

from pipelines.bench.plan import BATCH
from pipelines.bench.trace import Arrival, mixed_requests
from pipelines.diffusion.request import Request, SamplingParams
from serve.cli.target import is_loopback

CLIENTS = 2 * BATCH
"""Each sends its next request once it has its answer: one batch fills while another is drawn."""
_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Pair:
    """The same figure of another server and of the service, in seconds or in pictures a second."""

    what: str
    other: float
    served: float

    @property
    def ratio(self) -> float:
        return self.served / self.other


def table(other: str, pairs: Sequence[Pair]) -> Table:
    """A row for each pair; ``other`` is the name of the other server."""
    rows = Table("", other, "served", f"served / {other}")
    for pair in pairs:
        rows.add_row(pair.what, f"{pair.other:.3f}", f"{pair.served:.3f}", f"{pair.ratio:.2f}")
    return rows


def percentiles(what: str, other: Iterable[float], served: Iterable[float]) -> list[Pair]:
    """The median and the 95th percentile of latencies in seconds."""
    both = [list(other), list(served)]
    return [
        Pair(f"{what}, p{percent}, s", *(float(np.percentile(each, percent)) for each in both))
        for percent in (50, 95)
    ]


def as_json(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [{**asdict(pair), "ratio": pair.ratio} for pair in pairs]


@dataclass
class Traffic:
    """Makes requests of one size in pixels; only the mixed ones vary in ``guidance_scale``."""

    width: int
    height: int
    guidance_scale: float
    _count: int = field(default=0, init=False)

    def one(self, steps: int) -> Request:
        """The same prompt each time, with another seed."""
        self._count += 1
        params = self._params(steps, self.guidance_scale, self._count, "a red fox")
        return Request(f"r{self._count}", params)

    def uniform(self, steps: int, count: int, seed: int) -> list[Request]:
        """All with the same number of steps; each prompt comes once, so that no cache helps."""

        def params(steps: int, _: float, seed: int, prompt: str) -> SamplingParams:
            return self._params(steps, self.guidance_scale, seed, prompt)

        return mixed_requests(count, (steps,), seed, params, self._label())

    def mixed(self, steps: Sequence[int], count: int, seed: int) -> list[Request]:
        """With these steps by three guidance scales; each prompt comes once."""
        return mixed_requests(count, steps, seed, self._params, self._label())

    def _label(self) -> str:
        self._count += 1
        return f"{self._count} "

    def _params(self, steps: int, guidance: float, seed: int, prompt: str) -> SamplingParams:
        return SamplingParams(
            prompt=prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=seed,
        )


def body(params: SamplingParams) -> dict[str, Any]:
    """The JSON of a request for one picture, for the service and for any peer."""
    return {
        "prompt": params.prompt,
        "size": f"{params.width}x{params.height}",
        "num_inference_steps": params.num_inference_steps,
        "guidance_scale": params.guidance_scale,
        "seed": params.seed,
    }


class Client:
    """Sends requests to one base URL, with a key if it needs one; ``http`` is to be closed.

    Every method raises `httpx2.HTTPError` if a request has no answer or an error for an answer.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            trust_env=not is_loopback(url),  # a proxy would not find this machine's loopback
            limits=httpx2.Limits(max_connections=1000),
        )

    async def ask(self, request: Request) -> float:
        """Seconds that one picture takes."""
        began = time.perf_counter()
        answer = await self.http.post("/v1/images/generations", json=body(request.params))
        answer.raise_for_status()
        return time.perf_counter() - began

    async def full(self, requests: Iterable[Request], pictures: int) -> float:
        """Pictures a second for `CLIENTS` clients, without the time of filling and emptying.

        ``requests`` are at least ``pictures`` plus two for each client. If the server answers
        whole batches at once, ``pictures`` is a multiple of the batch.
        """
        source = iter(requests)
        ended: list[float] = []

        async def client() -> None:
            while len(ended) < CLIENTS + pictures:
                await self.ask(next(source))
                ended.append(time.perf_counter())

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return pictures / (ended[CLIENTS + pictures - 1] - ended[CLIENTS - 1])

    async def trace(self, arrivals: Sequence[Arrival]) -> list[float]:
        """Seconds of each request from when it was due."""
        began = time.perf_counter()

        async def ask(arrival: Arrival) -> float:
            await asyncio.sleep(max(0.0, began + arrival.at - time.perf_counter()))
            await self.ask(arrival.request)
            return time.perf_counter() - began - arrival.at

        return await asyncio.gather(*(ask(arrival) for arrival in arrivals))
