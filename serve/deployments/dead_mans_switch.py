"""How an ingress replica learns that it is being stopped."""

from __future__ import annotations

import asyncio

from serve.supervise import Turned, untold

TICK_S = 0.5
TICKS = 8


class DeadMansSwitch:
    """Sets ``stopping`` once nobody has asked for health for four seconds.

    Serve tells a replica nothing before its ongoing requests have ended, and each open socket is
    one: waiting for a call, it would hold every redeployment up until the time to stop is over,
    and its clients would be cut without a word. But Serve's controller stops asking for health
    when it stops a replica. A controller that died asks again once it is back: then the replica
    goes on. Ticks are counted rather than time, so that a loop that was blocked, and asked
    meanwhile, draws no wrong conclusion.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._missed: int | None = None
        """Ticks since the last question; None before the first, for the start may take long."""

    def asked(self) -> None:
        """Health was asked for."""
        if self._missed is not None and self._missed >= TICKS:
            self._stopping.clear()
        self._missed = 0

    def tick(self) -> None:
        """Another half second passed."""
        if self._missed is None:
            return
        self._missed += 1
        if self._missed == TICKS:
            self._stopping.set()

    async def run(self, turned: Turned = untold) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()
            turned()
