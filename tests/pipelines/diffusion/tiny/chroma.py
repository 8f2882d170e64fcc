"""Chroma with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline() -> ChromaPipeline:
    torch.manual_seed(7)
    return ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=t5_encoder(16),
        tokenizer=t5_tokenizer(),
        transformer=ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ).eval(),
    )
