"""SDXL against diffusers' own pipelines: same request, same latents and picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from pipelines.diffusion.families.stable_diffusion_xl import StableDiffusionXL
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import NoiseScheduler, SamplingParams
from tests.pipelines.diffusion.families.test_parity import REFERENCE, TOLERANCE
from tests.pipelines.diffusion.families.test_source_pictures import left_half, source
from tests.pipelines.diffusion.families.unet_reference import alone, reference
from tests.pipelines.diffusion.tiny.stable_diffusion_xl import build_pipeline, build_refiner

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

Params = Callable[..., SamplingParams]


def saved(pipeline: Any, folder: Path, dtype: str = "float32") -> StableDiffusionXL:
    pipeline.save_pretrained(folder)
    family = load_model(folder, device="cpu", dtype=dtype)
    assert isinstance(family, StableDiffusionXL)
    return family


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionXL:
    return saved(build_pipeline(), tmp_path_factory.mktemp("xl"))


def check(family: StableDiffusionXL, asked: SamplingParams) -> None:
    latents, picture = alone(family, asked)
    their_latents, their_picture = reference(family, asked)
    torch.testing.assert_close(latents, their_latents, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(picture, their_picture, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("scheduler", REFERENCE)
@pytest.mark.parametrize(("guidance_scale", "negative_prompt"), [(0.0, ""), (5.0, "blue")])
def test_same_as_diffusers(
    xl: StableDiffusionXL,
    params: Params,
    scheduler: NoiseScheduler,
    guidance_scale: float,
    negative_prompt: str,
) -> None:
    asked = params(
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        scheduler=scheduler,
        num_inference_steps=5,
        width=72,
        height=48,
    )
    check(xl, asked)


def test_no_negative_prompt_is_read_as_zeros(xl: StableDiffusionXL, params: Params) -> None:
    asked = params(negative_prompt="")
    check(xl, asked)
    negative = xl.encode(asked).negative
    assert negative is not None
    assert negative.tokens.count_nonzero() == 0


@pytest.mark.parametrize("scheduler", REFERENCE)
@pytest.mark.parametrize(("strength", "masked"), [(0.7, False), (0.7, True), (1.0, True)])
def test_source_pictures(
    xl: StableDiffusionXL, params: Params, scheduler: NoiseScheduler, strength: float, masked: bool
) -> None:
    mask = left_half() if masked else None
    asked = params(
        image=source(),
        mask=mask,
        strength=strength,
        scheduler=scheduler,
        guidance_scale=1.0 if masked else 5.0,
        negative_prompt="blue",
    )
    check(xl, asked)


@pytest.mark.parametrize(
    ("class_name", "options", "steps"),
    [
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}, 1),  # Turbo
        ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, 4),  # Lightning
        ("HeunDiscreteScheduler", {}, 4),
        ("EDMEulerScheduler", {"sigma_min": 0.002, "sigma_max": 80.0}, 4),
        ("EDMDPMSolverMultistepScheduler", {"sigma_min": 0.002, "sigma_max": 80.0}, 4),
    ],
)
@pytest.mark.parametrize("sourced", [False, True])
def test_any_default_scheduler(
    xl: StableDiffusionXL,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    class_name: str,
    options: dict[str, Any],
    steps: int,
    sourced: bool,
) -> None:
    default = getattr(diffusers, class_name).from_config(xl.pipeline.scheduler.config, **options)
    monkeypatch.setattr(xl.pipeline, "scheduler", default)
    image = source() if sourced else None
    asked = params(guidance_scale=0.0, num_inference_steps=steps, image=image, strength=1.0)
    check(xl, asked)


def test_a_model_that_encodes_an_empty_negative_prompt(tmp_path: Path, params: Params) -> None:
    pipeline = build_pipeline()
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    check(saved(pipeline, tmp_path), params())


def test_guidance_by_embedding(tmp_path: Path, params: Params) -> None:
    family = saved(build_pipeline(time_cond_proj_dim=8), tmp_path)
    check(family, params(guidance_scale=6.0))
    check(family, params(guidance_scale=6.0, image=source()))


def test_latents_by_their_mean_and_deviation(tmp_path: Path, params: Params) -> None:
    pipeline = build_pipeline()
    pipeline.vae.register_to_config(
        latents_mean=[-1.6, 1.1, 0.3, 0.2], latents_std=[8.4, 5.9, 5.3, 5.2], scaling_factor=0.5
    )
    family = saved(pipeline, tmp_path)
    check(family, params())
    check(family, params(image=source()))


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_the_refiner(tmp_path: Path, params: Params, guidance_scale: float) -> None:
    family = saved(build_refiner(), tmp_path)
    assert family.description.needs_image
    check(family, params(image=source(), strength=0.5, guidance_scale=guidance_scale))
    check(family, params(image=source(), mask=left_half(), guidance_scale=guidance_scale))
    with pytest.raises(AssertionError, match="refines pictures; give an image"):
        alone(family, params())


def test_the_vae_of_a_half_precision_model(tmp_path: Path) -> None:
    """It overflows in float16, and says so in its configuration."""
    assert saved(build_pipeline(), tmp_path, "float16").pipeline.vae.dtype is torch.float32
    family = load_model(tmp_path, device="cpu", dtype="bfloat16")
    assert isinstance(family, StableDiffusionXL)
    assert family.pipeline.vae.dtype is torch.bfloat16
