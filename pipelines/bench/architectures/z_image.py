"""Z-Image-Turbo."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from pipelines.bench.architectures import flux, text

Config = dict[str, Any]

# The configuration of Tongyi-MAI/Z-Image-Turbo, which is diffusers' default. The VAE is FLUX.1's.
TRANSFORMER: Config = {"dim": 3840, "n_layers": 30, "n_heads": 30, "cap_feat_dim": 2560}


def z_image_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def z_image(
    scheduler: Any, transformer: Config = TRANSFORMER, vae: Config = flux.VAE
) -> ZImagePipeline:
    """Pictures of 1024x1024 pixels."""
    return ZImagePipeline(
        tokenizer=text.qwen_tokenizer(),
        text_encoder=text.qwen_encoder(transformer["cap_feat_dim"]),
        transformer=ZImageTransformer2DModel(**transformer).eval(),
        vae=AutoencoderKL(**vae).eval(),
        scheduler=scheduler,
    )
