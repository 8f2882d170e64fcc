"""What this process remembers of tenants and keys: so many of them, and for so long."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from math import inf
from time import monotonic
from typing import Any, Generic, TypeVar

from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import CACHE_LOOKUPS

FRESH_S = 5.0
_MOST = 10_000

K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V]):
    """Keeps the ``_MOST`` entries that were written last."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _MOST:
            self.popitem(last=False)


class Remembered(Generic[K, V]):
    """What Postgres said of each key, at most ``FRESH_S`` seconds ago; errors are not remembered.

    A key is read once at a time. At half that age it is read again in the background, so that one
    that is asked for steadily never waits.
    """

    def __init__(
        self, name: str, read: Callable[[K], Coroutine[Any, Any, V]], meter: Meter = UNMETERED
    ) -> None:
        """``name`` is the metric's label ``cache``."""
        self._name = name
        self._read = read
        self._meter = meter
        self._known: Bounded[K, tuple[float, V]] = Bounded()
        self._reading: dict[K, asyncio.Task[V]] = {}

    async def of(self, key: K) -> V:
        """What ``read`` returns for the key; raises what it raises."""
        known = self._known.get(key)
        age_s = inf if known is None else monotonic() - known[0]
        fresh = age_s < FRESH_S
        self._meter.count(CACHE_LOOKUPS, cache=self._name, result="hit" if fresh else "miss")
        if known is not None and age_s < FRESH_S / 2:
            return known[1]
        if key not in self._reading:
            reading = asyncio.create_task(self._read_again(key))
            reading.add_done_callback(_mark_retrieved)
            self._reading[key] = reading
        if known is not None and fresh:
            return known[1]
        return await asyncio.shield(self._reading[key])

    def forget(self, key: K) -> None:
        """It was changed by this process: read it again."""
        self._known.pop(key, None)
        self._reading.pop(key, None)

    async def _read_again(self, key: K) -> V:
        this = asyncio.current_task()
        try:
            value = await self._read(key)
            if self._reading.get(key) is this:  # else it was changed meanwhile
                self._known[key] = (monotonic(), value)
            return value
        finally:
            if self._reading.get(key) is this:
                del self._reading[key]


def _mark_retrieved(reading: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging an error that every waiting request has received."""
    if not reading.cancelled():
        reading.exception()
