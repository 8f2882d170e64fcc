"""How many requests a step holds where memory ended once. Free of torch."""

from __future__ import annotations

_PATIENCE = 256
_MOST_PATIENCE = 64 * _PATIENCE


class BatchLimit:
    """The most requests in a step of one lane, learnt from a step that ran out of memory.

    Memory that was short may be free again, so the limit grows by one after 256 full steps. Where
    that proves wrong, it falls back to what had held, and waits twice as long for the next trial,
    up to 16,384 full steps: a wrong trial costs little, and comes ever more rarely.
    """

    def __init__(self, failed: int) -> None:
        """A step of ``failed`` requests ran out of memory."""
        self.size = max(1, failed // 2)
        self._held = 0  # the most that has held for the whole of the patience; 0 for none
        self._steps = 0  # full ones, since the limit last changed
        self._patience = _PATIENCE

    def fell(self, failed: int) -> None:
        """Another step ran out of memory."""
        if 0 < self._held < failed:
            self.size = self._held
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        else:
            self.size = max(1, min(self.size, failed // 2))
            self._held = 0
        self._steps = 0

    def held(self, requests: int) -> None:
        """A step of so many passed; only a full one says that the limit is right."""
        if requests < self.size:
            return
        self._steps += 1
        if self._steps < self._patience:
            return
        if self.size > self._held > 0:
            self._patience = _PATIENCE  # the last trial was right
        self._held, self._steps = self.size, 0
        self.size += 1
