"""What is to be measured, and for how long. Free of torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipelines.diffusion.speed.acceleration import Acceleration

GUIDANCE_SCALES = (3.0, 5.0, 7.5)
BATCH = 8
"""Pictures in a step batch, and in a static one."""


class ArchitectureName(StrEnum):
    """Those that are built from their published configuration, with random weights."""

    SMALL = "small"
    SD15 = "sd15"
    SDXL = "sdxl"
    SD3_MEDIUM = "sd3-medium"
    FLUX_DEV = "flux-dev"
    Z_IMAGE = "z-image"


class ClockName(StrEnum):
    """``CPU`` counts the processor's time of one thread, for a machine that others share."""

    WALL = "wall"
    CPU = "cpu"


class ArmName(StrEnum):
    """Who serves the trace."""

    STEP = "step-batching"
    STATIC = "static-8"
    LOOP = "loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. ``model`` is a folder or hub id; with neither it nor an architecture, ours.

    ``steps`` are what the requests of a trace ask for, ``curve_steps`` those of the batch curve.
    ``narrow`` builds a tiny model in the architecture's place, which only shows that a run works.
    ``size`` is the pictures' side in pixels, the model's own by default. ``requests`` is for
    each pass of an arm, ``loads`` are shares of the batch-8 capacity.
    """

    model: str | None = None
    architecture: ArchitectureName | None = None
    narrow: bool = False
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    clock: ClockName = ClockName.WALL
    acceleration: Acceleration = field(default_factory=Acceleration)
    size: int | None = None
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    curve_steps: int = 20
    steps: tuple[int, ...] = (4, 20, 50)
    arms: tuple[ArmName, ...] = tuple(ArmName)
    loads: tuple[float, ...] = (0.3, 0.6, 0.85, 1.1)
    requests: int = 54
    clients: int = 16
    minutes: float = 30.0
    seed: int = 0

    def quick(self) -> Plan:
        """The same with little of each, to see that it runs; its figures mean nothing."""
        return replace(
            self,
            batches=(1, BATCH),
            curve_steps=4,
            steps=(2, 4, 6),
            loads=self.loads[:1],
            requests=9,
            minutes=min(self.minutes, 5.0),
        )


class Budget:
    """The seconds that a run may take in all."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - self._clock())

    def share(self, part: float) -> float:
        """Seconds: a part of the whole, or what is left if that is less."""
        return min(part * self._total, self.left)
