"""What diffusers' own pipelines draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipelines.diffusion.request import SamplingParams


def draw_by(pipeline: Any, asked: SamplingParams, **options: Any) -> tuple[Tensor, Tensor]:
    """The last latents, as the pipeline has them, and the picture before it is rounded."""
    pipeline.set_progress_bar_config(disable=True)
    seen: list[Tensor] = []

    def keep(_: Any, __: int, ___: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
        seen.append(tensors["latents"].clone())
        return {}

    picture: Tensor = pipeline(
        prompt=asked.prompt,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        output_type="pt",
        callback_on_step_end=keep,
        **options,
    ).images
    return seen[-1], picture
