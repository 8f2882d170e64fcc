"""What a worker records of its engine's steps."""

from __future__ import annotations

from pipelines.diffusion.request import Step
from serve.observability.meter import FirstValues, Meter
from serve.observability.metrics import STEP_BATCH_FILL, STEP_BATCH_SIZE, STEP_SECONDS

SIZES = 16
"""Clients choose sizes; those after the first so many are recorded as ``other``."""


class StepMeter:
    """Records steps once they were made; for one thread."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._sizes = FirstValues(SIZES)

    def record(self, steps: list[Step], places: int) -> None:
        """``places`` are those of a full batch, in requests."""
        for step in steps:
            model, size = step.model, self._sizes.label(f"{step.width}x{step.height}")
            self._meter.observe(STEP_SECONDS, step.seconds, model=model, size=size)
            self._meter.observe(STEP_BATCH_SIZE, step.requests, model=model)
            self._meter.observe(STEP_BATCH_FILL, step.requests / places, model=model)
