"""More and more users: at which number does the service begin to refuse, or to answer late?"""

from __future__ import annotations

from loadtests.shapes.shape import Shape


class Ramp(Shape):
    """Evenly from one user to all."""

    def share(self, time: float) -> float:
        return time
