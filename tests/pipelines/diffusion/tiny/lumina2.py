"""Lumina-Image 2.0 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
from transformers import Gemma2Model

from tests.pipelines.diffusion.tiny.stable_diffusion import vae_of_eight
from tests.pipelines.diffusion.tiny.text import gemma2_config, gemma_tokenizer


def build_pipeline() -> Lumina2Pipeline:
    torch.manual_seed(7)
    return Lumina2Pipeline(
        transformer=Lumina2Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            hidden_size=24,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=[4, 4, 4],
            axes_lens=[512, 64, 64],
            cap_feat_dim=8,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=vae_of_eight(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Gemma2Model(gemma2_config(8)).eval(),
        tokenizer=gemma_tokenizer(),
    )
