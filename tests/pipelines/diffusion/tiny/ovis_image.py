"""Ovis-Image with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from transformers import Qwen3Model

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import qwen3_config, qwen_tokenizer


def build_pipeline() -> OvisImagePipeline:
    torch.manual_seed(7)
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen3Model(qwen3_config(16)).eval(),
        tokenizer=qwen_tokenizer(),
        transformer=OvisImageTransformer2DModel(
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
        ).eval(),
    )
