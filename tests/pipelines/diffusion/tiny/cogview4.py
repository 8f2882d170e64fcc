"""CogView4 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
from transformers import GlmConfig, GlmModel

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import fast_tokenizer


def build_pipeline() -> CogView4Pipeline:
    torch.manual_seed(7)
    return CogView4Pipeline(
        tokenizer=fast_tokenizer(padding_side="left"),
        text_encoder=GlmModel(
            GlmConfig(
                vocab_size=32,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                pad_token_id=0,
            )
        ).eval(),
        vae=vae(),
        transformer=CogView4Transformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=4,
            sample_size=16,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    )
