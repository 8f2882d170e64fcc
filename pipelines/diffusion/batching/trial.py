"""When a lane's step may be larger than what seems to saturate the device. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

_FIRST = 16
_MOST = 512
_LESS = 0.75


@dataclass(slots=True)
class Trial:
    """Counts a lane's steps that ended where the device saturates: after 16 of them one may have
    twice as many requests, then after 32, and so on up to 512; from 16 again once it has paid.
    """

    until: int = _FIRST
    between: int = _FIRST
    least: float = math.inf
    """Of the shares of a saturated step that requests have had."""

    def learnt(self, share: float) -> None:
        """A request's share; if it is much less than any, larger steps have paid."""
        if share < _LESS * self.least:
            self.until = self.between = _FIRST
            self.least = share

    def due(self) -> bool:
        """Whether the step that ends there now may be larger."""
        self.until -= 1
        if self.until:
            return False
        self.between = min(2 * self.between, _MOST)
        self.until = self.between
        return True
