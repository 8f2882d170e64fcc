"""Stable Diffusion 1.5, and a small UNet of its shape."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from pipelines.bench.architectures import text

Config = dict[str, Any]

# unet/config.json, vae/config.json and scheduler/scheduler_config.json of
# stable-diffusion-v1-5/stable-diffusion-v1-5; what is not named is diffusers' default.
UNET: Config = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
VAE: Config = {
    "sample_size": 512,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

# 2.6 GFLOP a row, which saturates a core or two as Stable Diffusion does a GPU.
SMALL_UNET = UNET | {
    "sample_size": 32,
    "block_out_channels": (64, 96, 176),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": 192,
    "norm_num_groups": 8,
}
SMALL_VAE = VAE | {
    "sample_size": 128,
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def sd15_scheduler() -> PNDMScheduler:
    return PNDMScheduler(**SCHEDULER, skip_prk_steps=True)


def sd15(scheduler: Any, unet: Config = UNET, vae: Config = VAE) -> StableDiffusionPipeline:
    """Pictures of 512x512 pixels."""
    return StableDiffusionPipeline(
        tokenizer=text.clip_tokenizer(),
        text_encoder=text.clip_text_encoder(unet["cross_attention_dim"]),
        unet=UNet2DConditionModel(**unet).eval(),
        vae=AutoencoderKL(**vae).eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def small_scheduler() -> DDIMScheduler:
    return DDIMScheduler(**SCHEDULER, clip_sample=False)


def small(scheduler: Any) -> StableDiffusionPipeline:
    """Pictures of 128x128 pixels."""
    return sd15(scheduler, SMALL_UNET, SMALL_VAE)
