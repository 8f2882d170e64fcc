"""Image-to-image and inpainting: the reference is diffusers' own pipelines for them."""

from __future__ import annotations

from collections.abc import Callable

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from numpy.typing import NDArray
from PIL import Image

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from pipelines.diffusion.noise_schedulers import noise_schedulers
from pipelines.diffusion.request import Failure, NoiseScheduler, Output, Request, SamplingParams
from tests.pipelines.diffusion.families.test_parity import REFERENCE, TOLERANCE

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]
Run = Callable[..., list[Output]]


def source(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def left_half(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return mask


def reference(family: StableDiffusion, asked: SamplingParams) -> torch.Tensor:
    class_name, overrides = REFERENCE[asked.scheduler]
    scheduler = getattr(diffusers, class_name).from_config(
        family.pipeline.scheduler.config, **overrides
    )
    inpaint = asked.mask is not None
    pipeline_class = StableDiffusionInpaintPipeline if inpaint else StableDiffusionImg2ImgPipeline
    pipeline = pipeline_class(
        **family.pipeline.components | {"scheduler": scheduler}, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    assert asked.image is not None
    options = {}
    if asked.mask is not None:
        options = {
            "mask_image": Image.fromarray(asked.mask),
            "width": asked.width,
            "height": asked.height,
        }
    picture: torch.Tensor = pipeline(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        image=Image.fromarray(asked.image),
        strength=asked.strength,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        output_type="pt",
        **options,
    ).images
    return picture


@pytest.mark.parametrize("scheduler", noise_schedulers(DDIMScheduler().config))
@pytest.mark.parametrize("strength", [0.35, 0.8, 1.0])
@pytest.mark.parametrize("mask", [None, left_half()], ids=["whole", "masked"])
def test_same_as_diffusers(
    family: StableDiffusion,
    params: Params,
    run: Run,
    pictures: list[torch.Tensor],
    scheduler: NoiseScheduler,
    strength: float,
    mask: NDArray[np.uint8] | None,
) -> None:
    asked = params(
        image=source(),
        mask=mask,
        strength=strength,
        scheduler=scheduler,
        num_inference_steps=7,
        guidance_scale=3.0,
        seed=11,
    )
    outputs = run(DiffusionEngine(family), Request("alone", asked, preview_every=1))
    assert not [output for output in outputs if isinstance(output, Failure)]
    torch.testing.assert_close(pictures[0], reference(family, asked), atol=TOLERANCE, rtol=0)
    assert len(outputs) == int(7 * strength) + 1


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"image": source(32, 64)}, "The image has 32x64 pixels; resize it"),
        ({"image": source(), "mask": left_half(64, 32)}, "The mask has 64x32 pixels; resize it"),
        ({"mask": left_half()}, "give an image as well"),
        ({"image": source(), "strength": 0.0}, "above 0 and at most 1"),
        ({"image": source(), "strength": 1.5}, "above 0 and at most 1"),
        ({"image": source(), "strength": 0.1}, "leaves none of 4 steps"),
    ],
)
def test_what_cannot_be_drawn(
    family: StableDiffusion, params: Params, run: Run, overrides: dict[str, object], told: str
) -> None:
    outputs = run(DiffusionEngine(family), Request("bad", params(**overrides)))
    assert len(outputs) == 1
    assert isinstance(outputs[0], Failure)
    assert told in outputs[0].reason
