"""FLUX.1 and Stable Diffusion 3 with most of their blocks left out of some steps, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.families.transformer import TransformerFamily
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.speed.batch_buckets import padded
from pipelines.diffusion.speed.first_block_cache import FirstBlockCache
from pipelines.diffusion.trajectory import Trajectory
from tests.pipelines.diffusion.tiny import flux, stable_diffusion_3

MODELS: dict[str, Callable[[], Any]] = {
    "flux": flux.build_dev,
    "sd3": stable_diffusion_3.build_pipeline,
}
THRESHOLD = 0.2
"""At which these models skip about half of their steps."""

Params = Callable[..., SamplingParams]


@pytest.fixture(scope="module", params=MODELS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TransformerFamily:
    folder = tmp_path_factory.mktemp(request.param)
    MODELS[request.param]().save_pretrained(folder)
    family = load_model(folder, "cpu", "float32")
    assert isinstance(family, TransformerFamily)
    return family


@pytest.fixture
def family(shared: TransformerFamily) -> Iterator[TransformerFamily]:
    yield shared
    shared.first_block_cache = None
    shared.batch_buckets = ()


def cached(family: TransformerFamily, threshold: float = THRESHOLD) -> FirstBlockCache:
    family.first_block_cache = FirstBlockCache(family.denoiser, threshold, family.batch_buckets)
    return family.first_block_cache


@torch.inference_mode()
def begin(family: TransformerFamily, asked: SamplingParams) -> Trajectory:
    return family.prepare(asked, family.encode(asked))


@torch.inference_mode()
def step(family: TransformerFamily, batch: list[Trajectory]) -> None:
    for trajectory, prediction in zip(batch, family.denoise(batch), strict=True):
        trajectory.advance(prediction)


def draw(family: TransformerFamily, asked: SamplingParams) -> Tensor:
    trajectory = begin(family, asked)
    while not trajectory.finished:
        step(family, [trajectory])
    return trajectory.latents


def test_without_a_threshold_nothing_is_left_out(family: TransformerFamily, params: Params) -> None:
    asked = params(num_inference_steps=8)
    expected = draw(family, asked)
    cache = cached(family, threshold=0)
    assert torch.equal(draw(family, asked), expected)
    assert cache.full_evaluations == cache.evaluations > 0


def test_steps_are_left_out(family: TransformerFamily, params: Params) -> None:
    asked = params(num_inference_steps=12)
    exact = draw(family, asked)
    cache = cached(family)
    latents = draw(family, asked)
    assert 0 < cache.full_evaluations < cache.evaluations
    assert not torch.equal(latents, exact)
    assert (latents - exact).abs().mean() < 0.3 * exact.std()


def test_at_a_boundless_threshold_each_row_is_run_in_full_once(
    family: TransformerFamily, params: Params
) -> None:
    cache = cached(family, threshold=1e9)
    batch = [begin(family, params(seed=seed, guidance_scale=1.0)) for seed in range(3)]
    for _ in range(4):
        step(family, batch)
    assert cache.evaluations == 12
    assert cache.full_evaluations == 3


@pytest.mark.parametrize("buckets", [(), (1, 2, 4, 8, 16)])
def test_a_row_is_what_it_is_alone(
    family: TransformerFamily, params: Params, buckets: tuple[int, ...]
) -> None:
    """Guided or not, of other sizes and step counts, joining and leaving at any step."""
    family.batch_buckets = buckets
    asked = [
        params(seed=1, num_inference_steps=12),
        params(seed=2, num_inference_steps=5, guidance_scale=1.0),
        params(seed=3, num_inference_steps=16, prompt="an owl", guidance_scale=3.0),
        params(seed=4, num_inference_steps=9, width=96),
        params(seed=5, num_inference_steps=7, negative_prompt="a hare"),
    ]
    alone, counted = [], 0
    for each in asked:
        cache = cached(family)
        alone.append(draw(family, each))
        counted += cache.full_evaluations
    cache = cached(family)
    waiting = list(enumerate(asked))
    running: dict[int, Trajectory] = {}
    drawn: dict[int, Tensor] = {}
    while waiting or running:
        for i, each in waiting[:2]:
            running[i] = begin(family, each)
        del waiting[:2]
        step(family, list(running.values()))
        for i in [i for i, trajectory in running.items() if trajectory.finished]:
            drawn[i] = running.pop(i).latents
    for i, expected in enumerate(alone):
        torch.testing.assert_close(drawn[i], expected, atol=1e-4, rtol=0)
    assert cache.full_evaluations == counted < cache.evaluations


def test_only_the_rows_in_need_go_through_the_blocks(
    family: TransformerFamily, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_seen: list[int] = []
    block = family.denoiser.transformer_blocks[1]
    forward = block.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        rows_seen.append(len(kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(block, "forward", spy)
    family.batch_buckets = (1, 2, 4)
    cached(family, threshold=1e9)
    batch = [begin(family, params(seed=seed, guidance_scale=1.0)) for seed in range(3)]
    step(family, batch)
    step(family, batch)  # all kept: no block but the first
    step(family, [*batch, begin(family, params(seed=9, guidance_scale=1.0))])
    assert rows_seen == [len(padded(batch, family.batch_buckets)), 1]


def test_what_is_kept_goes_with_the_trajectory(family: TransformerFamily, params: Params) -> None:
    cached(family)
    first, again = (begin(family, params()) for _ in range(2))
    step(family, [first])
    assert first.cached_blocks
    assert not again.cached_blocks
    kept = first.cached_blocks[False]
    assert kept.change.ndim == kept.remainder.ndim == 2
    assert kept.change.untyped_storage().nbytes() == kept.change.nbytes  # no view of the batch


def test_the_transformer_is_left_as_it_was(family: TransformerFamily, params: Params) -> None:
    blocks, names = family.denoiser.transformer_blocks, set(family.denoiser.state_dict())
    cached(family)
    step(family, [begin(family, params())])
    assert family.denoiser.transformer_blocks is blocks
    assert set(family.denoiser.state_dict()) == names
