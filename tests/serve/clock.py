"""Time that passes when a test says so."""

from __future__ import annotations

from time import monotonic


class Clock:
    """In the place of ``monotonic``: a test that waits for it is as right on a slow machine."""

    def __init__(self) -> None:
        self._now = monotonic()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
