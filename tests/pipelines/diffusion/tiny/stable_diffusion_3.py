"""Stable Diffusion 3 and 3.5 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection

from tests.pipelines.diffusion.tiny.stable_diffusion import text_config, tokenizer, vae
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer

# diffusers inpaints with Stable Diffusion 3 at 16 latent channels alone.
CHANNELS = 16

TRANSFORMER: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "joint_attention_dim": 36,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 32,
    "pos_embed_max_size": 24,
}


def build_pipeline(t5: bool = True, **transformer: Any) -> StableDiffusion3Pipeline:
    """Pictures of 64x64 by default; ``transformer`` overrides the transformer's configuration."""
    torch.manual_seed(7)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**TRANSFORMER | transformer).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(latent_channels=CHANNELS, shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=_clip(),
        tokenizer=tokenizer(),
        text_encoder_2=_clip(),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5_encoder(36) if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )


def build_3_5_medium() -> StableDiffusion3Pipeline:
    """Normalised queries and keys, and a second attention in the first blocks."""
    return build_pipeline(qk_norm="rms_norm", dual_attention_layers=(0, 1))


def _clip() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(text_config(projection_dim=16)).eval()
