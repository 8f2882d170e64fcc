"""Bria 3.2 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import BriaPipeline, BriaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline() -> BriaPipeline:
    torch.manual_seed(7)
    return BriaPipeline(
        transformer=BriaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=None,
            axes_dims_rope=[0, 4, 4],
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(shift_factor=0.0, scaling_factor=0.13025),
        text_encoder=t5_encoder(16),
        tokenizer=t5_tokenizer(),
    )
