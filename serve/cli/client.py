"""One server of pictures, as a client sees it: how long it takes, and how many it makes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpx2

from pipelines.bench.plan import BATCH
from pipelines.bench.trace import Arrival
from pipelines.diffusion.request import Request, SamplingParams
from serve.cli.target import is_loopback

CLIENTS = 2 * BATCH
"""Who ask again as soon as they are served: they fill one batch while another is drawn."""
_PATIENCE = httpx2.Timeout(300)


class Client:
    """Asks one base URL, with a key if it needs one; ``http`` is open until it is closed.

    Every method raises `httpx2.HTTPError` if a request is not answered, or not by a picture.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=_PATIENCE,
            trust_env=not is_loopback(url),  # which a proxy would not find
            limits=httpx2.Limits(max_connections=1000),
        )

    async def ask(self, request: Request) -> float:
        """Seconds that one picture takes."""
        began = time.perf_counter()
        answer = await self.http.post("/v1/images/generations", json=body(request.params))
        answer.raise_for_status()
        return time.perf_counter() - began

    async def full(self, requests: Iterable[Request], pictures: int) -> float:
        """Pictures a second of `CLIENTS` clients; neither filling nor emptying counts.

        ``requests`` are at least ``pictures`` and twice as many as there are clients. Where whole
        batches are answered at once, ``pictures`` is a multiple of them.
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

        return await asyncio.gather(*(ask(each) for each in arrivals))


def body(params: SamplingParams) -> dict[str, Any]:
    """The JSON that asks for one picture, of the service and of any peer."""
    return {
        "prompt": params.prompt,
        "size": f"{params.width}x{params.height}",
        "num_inference_steps": params.num_inference_steps,
        "guidance_scale": params.guidance_scale,
        "seed": params.seed,
    }
