"""What diffusers' own pipelines draw over the weights of a UNet family of ours."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from pipelines.diffusion.families.stable_diffusion_xl import StableDiffusionXL
from pipelines.diffusion.families.unet import UNetFamily
from pipelines.diffusion.request import NoiseScheduler, Request, SamplingParams
from tests.pipelines.diffusion.families.test_neighbours import Neighbour, draw
from tests.pipelines.diffusion.families.test_parity import REFERENCE

_KEPT_CONFIG = ("force_zeros_for_empty_prompt", "requires_aesthetics_score")


def reference(
    family: UNetFamily, asked: SamplingParams, controlnet: Any = None
) -> tuple[Tensor, Tensor]:
    """The last latents and the picture by the pipeline for what is asked."""
    pipeline = _pipeline(family, asked, controlnet)
    seen: list[Tensor] = []

    def keep(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
        seen.append(tensors["latents"].clone())
        return {}

    picture: Tensor = pipeline(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt or None,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        output_type="pt",
        callback_on_step_end=keep,
        **_pictures(asked),
    ).images
    return seen[-1], picture


def alone(family: UNetFamily, asked: SamplingParams) -> tuple[Tensor, Tensor]:
    """The last latents and the picture, before it is rounded, by our engine."""
    request = Request("alone", asked, preview_every=2)
    return draw(family, [Neighbour(request, joins=0, stays=None)])["alone"]


def _pipeline(family: UNetFamily, asked: SamplingParams, controlnet: Any) -> Any:
    xl = isinstance(family, StableDiffusionXL)
    task = "Inpaint" if asked.mask is not None else "Img2Img" if asked.image is not None else ""
    name = f"StableDiffusion{'XL' * xl}{'ControlNet' * (controlnet is not None)}{task}Pipeline"
    components = dict(family.pipeline.components)
    components["scheduler"] = _scheduler(family, asked.scheduler)
    if controlnet is not None:
        components["controlnet"] = controlnet
    pipeline_class = getattr(diffusers, name)
    expected = pipeline_class.__init__.__annotations__
    config = {each: family.pipeline.config.get(each) for each in _KEPT_CONFIG if each in expected}
    options = config | {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    pipeline = pipeline_class(
        **{each: part for each, part in components.items() if each in expected}, **options
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _scheduler(family: UNetFamily, name: NoiseScheduler) -> Any:
    default = family.pipeline.scheduler
    class_name, overrides = REFERENCE[name]
    if name is NoiseScheduler.DEFAULT:
        class_name = type(default).__name__
    return getattr(diffusers, class_name).from_config(default.config, **overrides)


def _pictures(asked: SamplingParams) -> dict[str, Any]:
    """Sizes and pictures, under the names that each pipeline gives them."""
    options: dict[str, Any] = {"width": asked.width, "height": asked.height}
    if asked.image is not None:
        options = {"image": Image.fromarray(asked.image), "strength": asked.strength}
    if asked.mask is not None:
        options |= {
            "mask_image": Image.fromarray(asked.mask),
            "width": asked.width,
            "height": asked.height,
        }
    if asked.control is not None:
        followed = Image.fromarray(asked.control.image)
        options["image" if asked.image is None else "control_image"] = followed
        options |= {
            "controlnet_conditioning_scale": asked.control.scale,
            "control_guidance_start": asked.control.start,
            "control_guidance_end": asked.control.end,
        }
    return options
