"""Pictures with LoRAs: ours by the engine, and diffusers' by ``set_adapters``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.request import Failure, LoraScale, Request, Result, SamplingParams
from tests.pipelines.diffusion.reference import draw_by

TOLERANCE = 1e-4  # of colours from 0 to 1, and of latents by their spread

Drawn = tuple[Tensor, Tensor]
"""The last latents, and the picture before it is rounded."""


def loras(**scales: float) -> tuple[LoraScale, ...]:
    return tuple(LoraScale(name, scale) for name, scale in scales.items())


def draw(family: Family, *asked: SamplingParams, in_one_pass: bool = True) -> list[Drawn]:
    """All in one batch, from their first steps on; ``in_one_pass`` asserts that it never split."""
    finished: list[Drawn] = []
    order: list[int] = []
    decode = family.decode

    def keep(latents: Tensor) -> Tensor:
        finished.append((latents, decode(latents)))
        return finished[-1][1]

    engine = DiffusionEngine(family, max_batch=len(asked))
    for i, each in enumerate(asked):
        engine.add(Request(str(i), each))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "decode", keep)
        while engine.has_work:
            for output in engine.step():
                assert not isinstance(output, Failure), output
                if isinstance(output, Result):
                    order.append(int(output.request_id))
    assert in_one_pass == (engine.stats().steps == max(p.num_inference_steps for p in asked))
    return [drawn for _, drawn in sorted(zip(order, finished, strict=True), key=lambda x: x[0])]


def reference(pipeline: Any, files: Mapping[str, Path], asked: SamplingParams) -> Drawn:
    """By diffusers' pipeline alone; it is altered for good."""
    for name in {each.name: None for each in asked.loras}:
        pipeline.load_lora_weights(
            files[name].parent, weight_name=files[name].name, adapter_name=name
        )
    if asked.loras:
        pipeline.set_adapters(
            [each.name for each in asked.loras], [each.scale for each in asked.loras]
        )
    latents, picture = draw_by(pipeline, asked, guidance_scale=asked.guidance_scale)
    if latents.ndim == 3:  # FLUX.1
        factor = pipeline.vae_scale_factor
        latents = pipeline._unpack_latents(latents, asked.height, asked.width, factor)
    return latents, picture


def assert_same(ours: Drawn, theirs: Drawn) -> None:
    scale = max(1.0, float(theirs[0].std()))
    torch.testing.assert_close(ours[0], theirs[0], atol=TOLERANCE * scale, rtol=0)
    torch.testing.assert_close(ours[1], theirs[1], atol=TOLERANCE, rtol=0)


def assert_different(one: Drawn, other: Drawn) -> None:
    assert (one[1] - other[1]).abs().max() > 100 * TOLERANCE
