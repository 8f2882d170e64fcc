"""CogView3-Plus with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline() -> CogView3PlusPipeline:
    torch.manual_seed(7)
    return CogView3PlusPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(16),
        vae=vae(),
        transformer=CogView3PlusTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=2,
            pos_embed_max_size=16,
            sample_size=16,
        ).eval(),
        scheduler=CogVideoXDDIMScheduler(),
    )
