"""PixArt-alpha with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

from tests.pipelines.diffusion.tiny.stable_diffusion import vae_of_eight
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline() -> PixArtAlphaPipeline:
    """Pictures of 256x256: diffusers knows no smaller one of its kind."""
    torch.manual_seed(7)
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(16),
        transformer=PixArtTransformer2DModel(
            sample_size=32,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            norm_num_groups=4,
        ).eval(),
        vae=vae_of_eight(),
        scheduler=DPMSolverMultistepScheduler(),
    )
