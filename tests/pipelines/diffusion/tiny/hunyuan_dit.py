"""HunyuanDiT with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import string

import torch
from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel, BertTokenizer

from tests.pipelines.diffusion.tiny.stable_diffusion import vae_of_eight
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline() -> HunyuanDiTPipeline:
    """Pictures of 1024x1024 pixels: the call knows no smaller ones."""
    torch.manual_seed(7)
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    return HunyuanDiTPipeline(
        vae=vae_of_eight(mid_block_add_attention=False),
        text_encoder=BertModel(
            BertConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=80,
            )
        ).eval(),
        tokenizer=BertTokenizer(vocab={word: i for i, word in enumerate(words)}),
        text_encoder_2=t5_encoder(16),
        tokenizer_2=t5_tokenizer(),
        transformer=HunyuanDiT2DModel(
            sample_size=128,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            in_channels=4,
            cross_attention_dim=16,
            cross_attention_dim_t5=16,
            pooled_projection_dim=16,
            hidden_size=24,
            activation_fn="gelu-approximate",
        ).eval(),
        scheduler=DDPMScheduler(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
