"""A step asks the device for no value: each reading waits for all that the device has to do.

The meta device stands in for a GPU: it computes shapes and dtypes, and refuses to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.bench.subject import family_of
from pipelines.diffusion.preview import PreviewMap
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.trajectory import Conditioning, TextEmbedding
from tests.pipelines.diffusion.tiny import (
    flux,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    z_image,
)

BUILDERS: dict[str, Callable[[], Any]] = {
    "stable-diffusion": stable_diffusion.build_pipeline,
    "stable-diffusion-distilled": lambda: stable_diffusion.build_pipeline(time_cond_proj_dim=8),
    "stable-diffusion-xl": stable_diffusion_xl.build_pipeline,
    "stable-diffusion-3": stable_diffusion_3.build_pipeline,
    "flux-dev": flux.build_dev,
    "flux-schnell": flux.build_schnell,
    "z-image": z_image.build_pipeline,
}
META = torch.device("meta")

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]


@pytest.mark.parametrize("name", BUILDERS)
@torch.inference_mode()
def test_a_step_reads_nothing_back(
    name: str, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From noise and from a masked source picture, with each noise scheduler, in one batch."""
    pipeline = BUILDERS[name]()
    here = family_of(pipeline)
    asked = [
        each
        for scheduler in here.description.schedulers
        for each in in_both_ways(params(scheduler=scheduler))
    ]
    conditionings = [here.encode(each) for each in asked]
    monkeypatch.setattr(PreviewMap, "fit", lambda *_: None)  # is fitted on the host
    there = family_of(pipeline.to(META))
    batch = [
        there.prepare(each, to_meta(conditioning))
        for each, conditioning in zip(asked, conditionings, strict=True)
    ]
    for _ in range(2):
        for trajectory, prediction in zip(batch, there.denoise(batch), strict=True):
            trajectory.advance(prediction)
            assert trajectory.latents.device == META


def in_both_ways(plain: SamplingParams) -> list[SamplingParams]:
    pixels = np.zeros((plain.height, plain.width, 3), np.uint8)
    return [plain, replace(plain, image=pixels, mask=pixels[..., 0], strength=0.5)]


def to_meta(conditioning: Conditioning) -> Conditioning:
    negative = conditioning.negative and embedding_to_meta(conditioning.negative)
    return replace(
        conditioning, positive=embedding_to_meta(conditioning.positive), negative=negative
    )


def embedding_to_meta(embedding: TextEmbedding) -> TextEmbedding:
    pooled = None if embedding.pooled is None else embedding.pooled.to(META)
    return TextEmbedding(embedding.tokens.to(META), pooled)
