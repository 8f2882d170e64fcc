"""Stable Diffusion XL base 1.0."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from pipelines.bench.architectures import stable_diffusion, text

Config = dict[str, Any]

# The configurations of stabilityai/stable-diffusion-xl-base-1.0.
UNET: Config = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = stable_diffusion.VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def sdxl_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(**SCHEDULER)


def sdxl(scheduler: Any, unet: Config = UNET, vae: Config = VAE) -> StableDiffusionXLPipeline:
    """Pictures of 1024x1024 pixels."""
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(**vae).eval(),
        text_encoder=text.clip_text_encoder(768),
        text_encoder_2=text.projecting_clip_text_encoder(1280),
        tokenizer=text.clip_tokenizer(),
        tokenizer_2=text.clip_tokenizer(),
        unet=UNet2DConditionModel(**unet).eval(),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
