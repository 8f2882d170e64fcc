"""Few users, and now and then all at once: how fast is the service itself again?"""

from __future__ import annotations

from loadtests.shapes.shape import Shape

_BURSTS = 3
_SHARE_OF_TIME = 0.25
_SHARE_BETWEEN = 0.2


class Burst(Shape):
    """A fifth of the users, and three times all of them, each for a twelfth of the time."""

    def share(self, time: float) -> float:
        return 1.0 if 0.5 <= time * _BURSTS % 1 < 0.5 + _SHARE_OF_TIME else _SHARE_BETWEEN
