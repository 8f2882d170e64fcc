"""SDXL with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.pipelines.diffusion.tiny import stable_diffusion

UNET: dict[str, Any] = stable_diffusion.UNET | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 32,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}


def build_pipeline(**unet: Any) -> StableDiffusionXLPipeline:
    """Pictures of 64x64 by default; ``unet`` overrides the UNet's configuration."""
    torch.manual_seed(7)
    return StableDiffusionXLPipeline(
        tokenizer=stable_diffusion.tokenizer(),
        text_encoder=CLIPTextModel(stable_diffusion.text_config()).eval(),
        unet=UNet2DConditionModel(**UNET | unet).eval(),
        force_zeros_for_empty_prompt=True,
        **_parts(),
    )


def build_refiner() -> StableDiffusionXLImg2ImgPipeline:
    """One text encoder, and an aesthetic score in place of the target size."""
    torch.manual_seed(7)
    unet = {"cross_attention_dim": 16, "projection_class_embeddings_input_dim": 16 + 5 * 8}
    return StableDiffusionXLImg2ImgPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=UNet2DConditionModel(**UNET | unet).eval(),
        force_zeros_for_empty_prompt=False,
        requires_aesthetics_score=True,
        **_parts(),
    )


def _parts() -> dict[str, Any]:
    return {
        "tokenizer_2": stable_diffusion.tokenizer(),
        "text_encoder_2": CLIPTextModelWithProjection(
            stable_diffusion.text_config(projection_dim=16)
        ).eval(),
        "vae": stable_diffusion.vae(scaling_factor=0.13025, force_upcast=True),
        "scheduler": EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            timestep_spacing="leading",
            steps_offset=1,
        ),
        "add_watermarker": False,
    }
