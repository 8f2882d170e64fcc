"""`python -m loadtests.peers.ray_serve`: diffusers behind Ray Serve, batched by `@serve.batch`.

As documented, one queue takes all requests, and those of a batch are answered once its last
diffusers call has ended. `--by-call` makes a queue for each number of steps, guidance scale and
size, so that every batch is one call.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import ray
import typer
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

from loadtests.peers.drawing import (
    BATCH_WAIT_S,
    DEFAULT_MODEL,
    DEFAULT_THREADS,
    PATH,
    Asked,
    Batch,
    Call,
    DrawingThread,
    Model,
    Port,
    Threads,
    answer,
)
from pipelines.bench.plan import BATCH

_CPUS = 4
"""What Ray is told of: replica, proxy and controller mostly wait for one another."""


@serve.deployment(max_ongoing_requests=1000)
class Diffusers:
    """OpenAI's image generations, a PNG each."""

    def __init__(self, model: Path, threads: int, batch: int, by_call: bool) -> None:
        thread = DrawingThread(model, threads)

        @cache
        def queue(_: Call | None) -> Callable[[Asked], Awaitable[bytes]]:
            @serve.batch(max_batch_size=batch, batch_wait_timeout_s=BATCH_WAIT_S)
            async def draw(batch: list[Asked]) -> list[bytes]:
                return await thread.draw(batch)

            return draw

        self._queue = queue
        self._by_call = by_call

    async def __call__(self, request: Request) -> dict[str, Any]:
        asked = Asked.read(await request.json())
        draw = self._queue(asked.call if self._by_call else None)
        return answer(await draw(asked))


def main(
    port: Port = 8001,
    model: Model = DEFAULT_MODEL,
    threads: Threads = DEFAULT_THREADS,
    batch: Batch = BATCH,
    by_call: Annotated[bool, typer.Option("--by-call", help="A queue for each kind.")] = False,
) -> None:
    """Serve the model until Ctrl-C."""
    ray.init(
        address="local",
        num_cpus=_CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    served = cast(Any, Diffusers).bind(model, threads, batch, by_call)
    serve.run(served, route_prefix=PATH)
    try:
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
