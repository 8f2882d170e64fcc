"""What is recorded of the engine's steps."""

from __future__ import annotations

from pipelines.diffusion.request import Step
from serve.observability.registry import Registry
from serve.worker.step_meter import SIZES, StepMeter
from tests.serve.observability.recorded import recorded


def test_a_step_has_its_seconds_batch_and_fill() -> None:
    registry = Registry()
    steps = [Step("m", 512, 768, 3, 0.2), Step("m", 512, 768, 4, 0.3), Step("n", 64, 64, 1, 0.01)]
    StepMeter(registry).record(steps, places=4)

    seconds = recorded(registry, "sfumato_step_seconds_sum", model="m", size="512x768")
    assert round(seconds, 6) == 0.5
    assert recorded(registry, "sfumato_step_batch_size_sum", model="m") == 7
    assert recorded(registry, "sfumato_step_batch_fill_ratio_sum", model="m") == 7 / 4
    assert recorded(registry, "sfumato_step_seconds_count", model="n", size="64x64") == 1


def test_sizes_are_bounded_whatever_clients_ask_for() -> None:
    registry = Registry()
    meter = StepMeter(registry)
    for width in range(8, 8 * 101, 8):
        meter.record([Step("m", width, 64, 1, 0.1)], places=4)

    assert recorded(registry, "sfumato_step_seconds_count") == 100
    assert recorded(registry, "sfumato_step_seconds_count", size="other") == 100 - SIZES
    assert recorded(registry, "sfumato_step_seconds_count", size=f"{8 * SIZES}x64") == 1
