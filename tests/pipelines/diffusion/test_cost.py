from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.diffusion.cost import CostModel
from pipelines.diffusion.request import SamplingParams

SMALL, LARGE = 64 * 64, 128 * 128


def test_a_guess_before_the_first_step() -> None:
    cost = CostModel(seconds_per_megapixel=2.0)
    assert cost.seconds_per_step(500_000, 2) == 2.0


def test_what_was_seen_is_known() -> None:
    cost = CostModel()
    cost.observe(SMALL, 2, 0.5)
    cost.observe(SMALL, 8, 1.0)
    assert cost.seconds_per_step(SMALL, 2) == 0.5
    assert cost.seconds_per_step(SMALL, 8) == 1.0


def test_what_was_not_seen_is_in_proportion() -> None:
    cost = CostModel()
    cost.observe(SMALL, 2, 0.5)
    assert cost.seconds_per_step(LARGE, 2) == 2.0
    assert cost.seconds_per_step(SMALL, 4) == 1.0


def test_it_follows_the_device() -> None:
    cost = CostModel(weight=0.2)
    cost.observe(SMALL, 1, 1.0)
    for _ in range(40):
        cost.observe(SMALL, 1, 3.0)
    assert cost.seconds_per_step(SMALL, 1) == pytest.approx(3.0, rel=0.01)
    cost.clear()
    assert cost.seconds_per_step(1_000_000, 1) == 1.0


def test_a_picture(params: Callable[..., SamplingParams]) -> None:
    cost = CostModel()
    cost.observe(SMALL, 2, 0.5)
    assert cost.predict(params(num_inference_steps=10, guidance_scale=5.0)) == 5.0
    assert cost.predict(params(num_inference_steps=10, guidance_scale=1.0)) == 2.5
    assert cost.predict(params(num_inference_steps=10), rows=4) == 10.0
