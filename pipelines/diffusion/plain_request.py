"""A request that any model can draw, for when nobody has asked yet. Free of torch."""

from __future__ import annotations

import numpy as np

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.request import SamplingParams

_STEPS = 4


def plain_params(
    model: ModelDescription, *, guidance_scale: float, size: tuple[int, int] | None = None
) -> SamplingParams:
    """``size`` is (width, height) in pixels, else the model's; with a picture if it needs one."""
    width, height = size or (model.default_width, model.default_height)
    return SamplingParams(
        prompt="sfumato",
        width=width,
        height=height,
        num_inference_steps=model.fixed_steps or _STEPS,
        guidance_scale=guidance_scale,
        seed=0,
        image=np.zeros((height, width, 3), np.uint8) if model.needs_image else None,
        mask=np.full((height, width), 255, np.uint8) if model.needs_mask else None,
        strength=1.0,
    )
