"""Stable Diffusion 3 medium."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)

from pipelines.bench.architectures import stable_diffusion, text

Config = dict[str, Any]

# The configurations of stabilityai/stable-diffusion-3-medium-diffusers.
TRANSFORMER: Config = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
VAE = stable_diffusion.VAE | {
    "sample_size": 1024,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "force_upcast": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def sd3_medium_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def sd3_medium(
    scheduler: Any, transformer: Config = TRANSFORMER, vae: Config = VAE
) -> StableDiffusion3Pipeline:
    """Pictures of 1024x1024 pixels."""
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**transformer).eval(),
        scheduler=scheduler,
        vae=AutoencoderKL(**vae).eval(),
        text_encoder=text.projecting_clip_text_encoder(768),
        tokenizer=text.clip_tokenizer(),
        text_encoder_2=text.projecting_clip_text_encoder(1280),
        tokenizer_2=text.clip_tokenizer(),
        text_encoder_3=text.t5_encoder(transformer["joint_attention_dim"]),
        tokenizer_3=text.t5_tokenizer(512),
    )
