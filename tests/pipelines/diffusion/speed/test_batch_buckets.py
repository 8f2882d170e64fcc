from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.request import LoraScale, SamplingParams
from pipelines.diffusion.speed.batch_buckets import padded
from tests.pipelines.diffusion.lora.lora_files import matrices, save_peft

BUCKETS = (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("a", "a"), ("ab", "ab"), ("abc", "abcc"), ("abcde", "abcdeeee"), ("abcdefghi", "abcdefghi")],
)
def test_padded(rows: str, expected: str) -> None:
    assert "".join(padded(rows, BUCKETS)) == expected


@pytest.mark.parametrize("buckets", [BUCKETS, ()])
def test_nothing_to_pad(buckets: tuple[int, ...]) -> None:
    assert padded("abc", ()) == ["a", "b", "c"]
    assert padded("", buckets) == []
    assert padded("ab", buckets) == ["a", "b"]


@torch.inference_mode()
@pytest.mark.parametrize("guidance", [(5.0, 1.0, 3.0), (1.0, 1.0, 1.0), (5.0,), (2.0, 1.0)])
def test_a_filled_batch_predicts_the_same(
    family: StableDiffusion,
    params: Callable[..., SamplingParams],
    guidance: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [
        params(guidance_scale=scale, seed=i, num_inference_steps=4 + i)
        for i, scale in enumerate(guidance)
    ]
    trajectories = [family.prepare(each, family.encode(each)) for each in asked]
    expected = family.denoise(trajectories)

    sizes: list[int] = []
    forward = family.denoiser.forward

    def spy(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(sample))
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(family.denoiser, "forward", spy)
    family.batch_buckets = BUCKETS
    filled = family.denoise(trajectories)
    assert sizes[0] in BUCKETS
    assert len(filled) == len(trajectories)
    for ours, theirs in zip(filled, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(("scale", "rows"), [(1.0, 3), (0.0, 4)])
def test_passes_with_loras_are_not_filled(
    family: StableDiffusion,
    params: Callable[..., SamplingParams],
    scale: float,
    rows: int,
    tmp_path: Path,
) -> None:
    """They are neither compiled nor replayed; one of scale 0 is, as it adds nothing."""
    pairs = matrices(family.pipeline, seed=1)
    family.loras.load("ink", save_peft(tmp_path / "ink.safetensors", pairs))
    sizes: list[int] = []
    hook = family.denoiser.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    family.batch_buckets = BUCKETS
    ink = params(guidance_scale=1.0, loras=(LoraScale("ink", scale),))
    asked = [ink, params(guidance_scale=1.0), params(guidance_scale=1.0)]
    family.denoise([family.prepare(each, family.encode(each)) for each in asked])
    hook.remove()
    assert sizes == [rows]
