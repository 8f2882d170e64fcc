"""FLUX.1 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from tests.pipelines.diffusion.tiny.stable_diffusion import text_config, tokenizer, vae
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer

TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
    "guidance_embeds": True,
}
# Dynamic shifting as dev's, steep enough to show at 64 pixels.
DEV: dict[str, Any] = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_image_seq_len": 16,
    "max_image_seq_len": 256,
}


def build_dev(**transformer: Any) -> FluxPipeline:
    """Distilled for guidance; ``transformer`` overrides its configuration."""
    torch.manual_seed(7)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**DEV),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
        text_encoder=CLIPTextModel(text_config()).eval(),
        tokenizer=tokenizer(),
        text_encoder_2=t5_encoder(16),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(**TRANSFORMER | transformer).eval(),
    )


def build_schnell() -> FluxPipeline:
    """No guidance of its own, and no shift."""
    pipeline = build_dev(guidance_embeds=False)
    pipeline.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0))
    return pipeline
