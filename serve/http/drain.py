"""How a process stops: it takes no more calls, and answers those that it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

LAST_WORDS_S = 5.0
"""For the answers to calls that were not done in time."""


class Drain:
    """Of one process. A call is a request that changes something, until it is answered."""

    def __init__(self) -> None:
        self.begun = False
        self.over = asyncio.Event()
        """Set when the time is up: calls that still wait are answered 503."""
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """While a call is answered."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def finish(self, within_s: float) -> None:
        """Take no more calls; return once the last one is answered."""
        self.begun = True
        for bound_s in (within_s, LAST_WORDS_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(bound_s):
                    await self._idle.wait()
                    return
            self.over.set()
