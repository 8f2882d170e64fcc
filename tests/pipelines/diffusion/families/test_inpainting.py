"""UNets that are shown what is kept: the reference is diffusers' own inpainting pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
)

from pipelines.diffusion.catalog import describe
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import ModelLoadError
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.noise_schedulers import noise_schedulers
from pipelines.diffusion.request import Failure, NoiseScheduler, Output, Request, SamplingParams
from tests.pipelines.diffusion.families.test_parity import TOLERANCE
from tests.pipelines.diffusion.families.test_source_pictures import left_half, source
from tests.pipelines.diffusion.families.unet_reference import alone, reference
from tests.pipelines.diffusion.tiny import stable_diffusion, stable_diffusion_xl

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


def build_inpainting(xl: bool) -> Any:
    if xl:
        plain = stable_diffusion_xl.build_pipeline(in_channels=9)
        return StableDiffusionXLInpaintPipeline(**plain.components, add_watermarker=False)
    plain = stable_diffusion.build_pipeline(in_channels=9)
    return StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)


@pytest.fixture(scope="module", params=[False, True], ids=["sd", "xl"])
def inpainting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> UNetFamily:
    folder = tmp_path_factory.mktemp("inpainting")
    build_inpainting(request.param).save_pretrained(folder)
    family = load_model(folder, device="cpu")
    assert isinstance(family, UNetFamily)
    return family


@pytest.mark.parametrize("scheduler", noise_schedulers(DDIMScheduler().config))
@pytest.mark.parametrize(("strength", "guidance_scale"), [(0.6, 5.0), (1.0, 1.0)])
def test_same_as_diffusers(
    inpainting: UNetFamily,
    params: Params,
    scheduler: NoiseScheduler,
    strength: float,
    guidance_scale: float,
) -> None:
    asked = params(
        image=source(72, 48),
        mask=left_half(72, 48),
        width=72,
        height=48,
        strength=strength,
        guidance_scale=guidance_scale,
        scheduler=scheduler,
    )
    latents, picture = alone(inpainting, asked)
    their_latents, their_picture = reference(inpainting, asked)
    torch.testing.assert_close(latents, their_latents, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(picture, their_picture, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("sources", [{}, {"image": source()}])
def test_it_needs_an_image_and_a_mask(
    inpainting: UNetFamily, params: Params, run: Run, sources: dict[str, Any]
) -> None:
    assert inpainting.description.needs_image
    assert inpainting.description.needs_mask
    outputs = run(DiffusionEngine(inpainting), Request("bad", params(**sources)))
    assert isinstance(outputs[0], Failure)
    assert outputs[0].reason == "This model paints into pictures; give an image and its mask."


def test_other_channels(tmp_path: Path) -> None:
    stable_diffusion.build_pipeline(in_channels=8).save_pretrained(tmp_path)
    assert not describe(tmp_path).needs_mask
    with pytest.raises(ModelLoadError, match=r"config.json' asks for 8 channels; take a model of"):
        load_model(tmp_path, device="cpu")
