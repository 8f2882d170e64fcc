"""Who is told next, when an event is for many."""

from __future__ import annotations

import asyncio
from itertools import islice

AT_ONCE = 32
"""Some two milliseconds of work (docs/decisions/0029-what-an-event-costs.md)."""


class Wave:
    """Rings bells a few at a time, each once however often it is asked to.

    In between the loop hears what else arrives. So an event that comes while the one before it
    goes round joins it, for all whose turn is still to come, and nobody's request waits for
    thousands of listeners.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: dict[asyncio.Event, None] = {}
        """In their order; while any wait, the loop will call `_move`."""

    def ring(self, bell: asyncio.Event) -> None:
        """Ring it when its turn comes; needs a running loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._move)
        self._waiting[bell] = None

    def _move(self) -> None:
        for bell in list(islice(self._waiting, self._at_once)):
            del self._waiting[bell]
            bell.set()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._move)
