from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diffusion.batching.cost import CostModel
from pipelines.diffusion.request import SamplingParams

SMALL, LARGE = 64 * 64, 128 * 128
ROWS = (1, 2, 4, 8, 16)

Params = Callable[..., SamplingParams]


def device(fixed: float, growing: float, **options: int) -> CostModel:
    """A step takes ``fixed`` seconds, and ``growing`` for each small row."""
    cost = CostModel(**options)
    for rows in ROWS:
        cost.observe(SMALL, rows, fixed + growing * rows)
    return cost


def test_a_guess_before_the_first_step() -> None:
    cost = CostModel(seconds_per_megapixel=2.0)
    assert cost.seconds_per_step(500_000, 2) == 2.0
    cost.observe(500_000, 2, 0.1)
    assert cost.seconds_per_step(500_000, 2) == 0.1
    cost.clear()
    assert cost.seconds_per_step(500_000, 2) == 2.0


def test_a_picture_is_its_prompt_its_steps_and_its_decoding(params: Params) -> None:
    cost = device(fixed=0.25, growing=0.125)
    cost.observe_encode(1, 1.0)
    cost.observe_encode(2, 1.5)
    cost.observe_decode(SMALL, 3.0)
    guided = params(num_inference_steps=10, guidance_scale=5.0)
    assert cost.predict(guided) == 1.5 + 10 * 0.5 + 3.0
    assert cost.remaining(guided, steps=4) == 4 * 0.5 + 3.0
    assert cost.predict(params(num_inference_steps=10, guidance_scale=1.0)) == 1 + 3.75 + 3
    assert cost.predict(params(num_inference_steps=10, width=128)) > cost.predict(guided)


def test_a_source_picture_leaves_steps_out(params: Params) -> None:
    cost = device(fixed=0.5, growing=0.0)
    source = np.zeros((64, 64, 3), np.uint8)
    assert cost.predict(params(num_inference_steps=10, image=source, strength=0.35)) == 1.5
    assert cost.predict(params(num_inference_steps=10, image=source, strength=1.0)) == 5.0


def test_guidance_that_was_distilled_costs_no_row(params: Params) -> None:
    cost = device(fixed=0.0, growing=1.0, guided_rows=1)
    assert cost.rows(params(guidance_scale=5.0)) == 1
    assert cost.predict(params(num_inference_steps=10, guidance_scale=5.0)) == 10.0


def test_bytes(params: Params) -> None:
    cost = CostModel()
    assert cost.held_bytes(params()) == cost.step_bytes(SMALL, 1) == 0
    cost.observe_held_bytes(SMALL, 2, 1000)
    cost.observe_step_bytes(SMALL, 2, 300)
    cost.observe_step_bytes(SMALL, 4, 500)
    assert cost.held_bytes(params(guidance_scale=5.0)) == 1000
    assert cost.held_bytes(params(guidance_scale=5.0, width=128)) == 2000
    assert cost.step_bytes(SMALL, 3) == 400
    assert cost.step_bytes(LARGE, 1) == 500


@pytest.mark.parametrize(
    ("fixed", "growing", "rows"),
    [
        (0.9, 0.1, 16),  # launch-bound
        (0.3, 0.7, 8),
        (0.1, 0.9, 2),
        (0.0, 1.0, 1),  # saturated by a single row
    ],
)
def test_saturation(fixed: float, growing: float, rows: int) -> None:
    assert device(fixed, growing).saturation(SMALL, most=16) == rows


def test_saturation_by_size() -> None:
    cost = device(fixed=1.0, growing=0.5)
    saturations = [cost.saturation(pixels, most=16) for pixels in (SMALL, 4 * SMALL, LARGE * 16)]
    assert saturations == [16, 8, 1]
    assert cost.saturation(SMALL, most=6) == 6


def test_a_smaller_picture_saturates_no_sooner() -> None:
    """Of fewer pixels than the smallest step that was measured nothing is known."""
    cost = CostModel()
    for rows in (2, 4, 8, 16):
        cost.observe(4 * SMALL, rows, 0.01 * rows)
    assert cost.saturation(4 * SMALL, most=16) == 2
    assert cost.saturation(SMALL, most=16) == 8
    assert cost.saturation(16 * SMALL, most=16) == 1


def test_saturation_is_not_guessed_from_steps_of_one_fill() -> None:
    cost = CostModel()
    assert cost.saturation(SMALL, most=8) == 8
    cost.observe(SMALL, 2, 1.0)
    cost.observe(LARGE, 2, 4.0)
    assert cost.saturation(SMALL, most=8) == 8
    cost = device(fixed=0.0, growing=0.0)  # a clock that stands
    assert cost.saturation(SMALL, most=8) == 8


def test_rows_within_memory() -> None:
    cost = CostModel()
    assert cost.rows_within(SMALL, most=8, memory=0) == 8
    cost.observe_step_bytes(SMALL, 1, 200)
    cost.observe_step_bytes(SMALL, 8, 900)
    assert cost.rows_within(SMALL, most=8, memory=650) == 5
    assert cost.rows_within(SMALL, most=8, memory=10_000) == 8
    assert cost.rows_within(SMALL, most=8, memory=10) == 1


def test_a_request_s_share_of_a_step(params: Params) -> None:
    cost = device(fixed=0.3, growing=0.7)  # of up to eight, four rows
    assert cost.saturation_share(params(guidance_scale=1.0), most=8) == 0.25
    assert cost.saturation_share(params(guidance_scale=5.0), most=8) == 0.5
    cost.observe_step_bytes(SMALL, 1, 100)
    assert cost.fill(params(guidance_scale=1.0), most=8, memory=350) == 1 / 3
    assert cost.fill(params(guidance_scale=1.0), most=8, memory=None) == 0.125
    assert cost.saturation_share(params(guidance_scale=5.0), most=1) == 2.0


def test_another_process_predicts_the_same(params: Params) -> None:
    cost = device(fixed=0.25, growing=0.125, guided_rows=1)
    cost.observe_encode(1, 1.0)
    cost.observe_decode(SMALL, 3.0)
    cost.observe_held_bytes(SMALL, 2, 1000)
    cost.observe_step_bytes(SMALL, 2, 300)
    other = CostModel.from_profile(json.loads(json.dumps(cost.profile())))
    for request in (params(), params(width=256, num_inference_steps=50, guidance_scale=1.0)):
        assert other.predict(request) == cost.predict(request)
        assert other.held_bytes(request) == cost.held_bytes(request)
        assert other.fill(request, 16, 500) == cost.fill(request, 16, 500)
        assert other.saturation_share(request, 16) == cost.saturation_share(request, 16)
    assert other.profile() == cost.profile()


@given(
    st.lists(
        st.tuples(st.sampled_from([SMALL, LARGE]), st.integers(1, 16), st.floats(0, 60)),
        max_size=12,
    ),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(1, 16),
    st.integers(1, 16),
)
def test_more_steps_and_more_rows_never_cost_less(
    params: Params,
    measured: list[tuple[int, int, float]],
    steps: int,
    more_steps: int,
    rows: int,
    more_rows: int,
) -> None:
    cost = CostModel()
    for pixels, number, seconds in measured:
        cost.observe(pixels, number, seconds)
        cost.observe_decode(pixels, seconds)
        cost.observe_step_bytes(pixels, number, round(seconds * 1e6))
    few = params(num_inference_steps=steps)
    many = params(num_inference_steps=steps + more_steps)
    assert 0 <= cost.predict(few) <= cost.predict(many) * (1 + 1e-9)
    step = cost.seconds_per_step(SMALL, rows)
    assert 0 <= step <= cost.seconds_per_step(SMALL, rows + more_rows) * (1 + 1e-9)
    assert 0 <= cost.step_bytes(SMALL, rows) <= cost.step_bytes(SMALL, rows + more_rows)
    assert 1 <= cost.saturation(SMALL, most=rows) <= rows
    assert 1 <= cost.rows_within(SMALL, rows, memory=10_000_000) <= rows
