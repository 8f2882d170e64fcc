"""Reads of the database that are put together while another one is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class BatchedReads(Generic[Q, A]):
    """Answers requests in batches, one batch after another.

    A request that comes while none is being answered is answered at once. Those that come in the
    meantime form the next batch, of ``batch_size`` at most. A batch waits for the one before it for
    ``patience_s`` at most, because that one may hang on a broken connection. A request never joins
    a batch whose read has begun, because that may read older data than the request must see.

    If a batch fails, each of its requests is read alone, so that one tenant's request cannot fail
    another's. It is not done after an error of the type ``shared``, which every request would meet.
    """

    def __init__(
        self,
        read: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        batch_size: int,
        patience_s: float = 1.0,
        shared: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        """``read`` returns an answer to each request, in their order."""
        self._read_batch = read
        self._batch_size = batch_size
        self._patience_s = patience_s
        self._shared = shared
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._working: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def read(self, request: Q) -> A:
        """The answer, or the exception that ``read`` raised for this request."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        while self._waiting:
            batch = self._waiting[: self._batch_size]
            del self._waiting[: self._batch_size]
            reading = asyncio.create_task(self._answer(batch))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
            await asyncio.wait({reading}, timeout=self._patience_s)

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            results = await self._read_batch([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            if len(batch) > 1 and not isinstance(error, self._shared):
                for entry in batch:
                    await self._answer([entry])
                return
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():  # the caller was cancelled
                answer.set_result(result)
