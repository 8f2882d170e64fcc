"""Krea 2 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Krea2Pipeline, Krea2Transformer2DModel
from transformers import Qwen3VLConfig, Qwen3VLModel

from tests.pipelines.diffusion.tiny.qwen_image import vae
from tests.pipelines.diffusion.tiny.text import qwen_tokenizer


def build_pipeline(*, distilled: bool = False) -> Krea2Pipeline:
    """``model_index.json`` lists three arguments of it that are no parts."""
    torch.manual_seed(7)
    return Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=6400,
        ),
        vae=vae(),
        text_encoder=Qwen3VLModel(
            Qwen3VLConfig(
                text_config={
                    "vocab_size": 32,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "head_dim": 8,
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 16,
                    "deepstack_visual_indexes": [0],
                },
            )
        ).eval(),
        tokenizer=qwen_tokenizer(),
        transformer=Krea2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
            rope_theta=1000.0,
        ).eval(),
        text_encoder_select_layers=[0, 1, 2],
        is_distilled=distilled,
    )
