"""Who is told next, when an event is for many."""

from __future__ import annotations

import asyncio

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
        """In their order."""
        self._moving = False

    def ring(self, bell: asyncio.Event) -> None:
        """Ring it when its turn comes; needs a running loop."""
        self._waiting[bell] = None
        if not self._moving:
            self._moving = True
            asyncio.get_running_loop().call_soon(self._move)

    def _move(self) -> None:
        for bell in [bell for bell, _ in zip(self._waiting, range(self._at_once), strict=False)]:
            del self._waiting[bell]
            bell.set()
        self._moving = bool(self._waiting)
        if self._moving:
            asyncio.get_running_loop().call_soon(self._move)
