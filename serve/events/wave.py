"""Who is told next, when an event is for many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

AT_ONCE = 32
"""Some two milliseconds of work (docs/decisions/0029-what-an-event-costs.md)."""


class Wave:
    """Wakes listeners a few at a time, each once however often it is asked to.

    In between the loop hears what else arrives. So an event that comes while the one before it
    goes round joins it, for all whose turn is still to come, and nobody's request waits for
    thousands of listeners.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: dict[Callable[[], None], None] = {}
        """In their order; while any wait, the loop will call `_move`."""

    def take(self, wake: Callable[[], None]) -> None:
        """Call it when its turn comes; needs a running loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._move)
        self._waiting[wake] = None

    def _move(self) -> None:
        try:
            for wake in list(islice(self._waiting, self._at_once)):
                del self._waiting[wake]
                wake()
        finally:  # one that fails must not keep the others waiting
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._move)
