"""`python -m loadtests.peers.grouped`: FastAPI and diffusers, with batches of equal requests.

What can be had without step batching by forty lines of one's own: whenever the pipeline is free, it
takes the request that has waited longest, and up to seven others of the same steps, guidance scale
and size. Each is answered when its own call ends.
"""

from __future__ import annotations

import asyncio

import typer

from loadtests.peers.drawing import (
    DEFAULT_MODEL,
    DEFAULT_THREADS,
    Asked,
    Batch,
    DrawingThread,
    Model,
    Port,
    Threads,
)
from loadtests.peers.plain import serve
from pipelines.bench.plan import BATCH

Waiting = tuple[Asked, asyncio.Future[bytes]]


class Groups:
    """The queue, oldest first."""

    def __init__(self, thread: DrawingThread, batch: int) -> None:
        self._thread = thread
        self._batch = batch
        self._waiting: list[Waiting] = []
        self._drawing: asyncio.Task[None] | None = None

    async def draw(self, asked: Asked) -> bytes:
        """A PNG."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._drawing is None or self._drawing.done():
            self._drawing = asyncio.create_task(self._draw_all())
        return await future

    async def _draw_all(self) -> None:
        while batch := self._take():
            pngs = await self._thread.draw([asked for asked, _ in batch])
            for (_, future), png in zip(batch, pngs, strict=True):
                if not future.cancelled():
                    future.set_result(png)

    def _take(self) -> list[Waiting]:
        if not self._waiting:
            return []
        call = self._waiting[0][0].call
        batch = [each for each in self._waiting if each[0].call == call][: self._batch]
        self._waiting = [each for each in self._waiting if each not in batch]
        return batch


def main(
    port: Port = 8001,
    model: Model = DEFAULT_MODEL,
    threads: Threads = DEFAULT_THREADS,
    batch: Batch = BATCH,
) -> None:
    """Serve the model until Ctrl-C."""
    serve(Groups(DrawingThread(model, threads), batch).draw, port)


if __name__ == "__main__":
    typer.run(main)
