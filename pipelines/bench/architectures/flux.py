"""FLUX.1-dev."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)

from pipelines.bench.architectures import stable_diffusion, text

Config = dict[str, Any]

# The configurations of black-forest-labs/FLUX.1-dev.
TRANSFORMER: Config = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
VAE = stable_diffusion.VAE | {
    "sample_size": 1024,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "force_upcast": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SCHEDULER: dict[str, Any] = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "base_shift": 0.5,
    "max_shift": 1.15,
}


def flux_dev_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**SCHEDULER)


def flux_dev(scheduler: Any, transformer: Config = TRANSFORMER, vae: Config = VAE) -> FluxPipeline:
    """Pictures of 1024x1024 pixels."""
    return FluxPipeline(
        scheduler=scheduler,
        vae=AutoencoderKL(**vae).eval(),
        text_encoder=text.clip_text_encoder(transformer["pooled_projection_dim"]),
        tokenizer=text.clip_tokenizer(),
        text_encoder_2=text.t5_encoder(transformer["joint_attention_dim"]),
        tokenizer_2=text.t5_tokenizer(512),
        transformer=FluxTransformer2DModel(**transformer).eval(),
    )
