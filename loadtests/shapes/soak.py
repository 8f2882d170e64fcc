"""The same users for hours: does anything get slower, or stay behind?"""

from __future__ import annotations

from loadtests.shapes.shape import Shape

_RAMP = 0.05


class Soak(Shape):
    """All of them, after a ramp of a twentieth of the time."""

    def share(self, time: float) -> float:
        return min(1.0, time / _RAMP)
