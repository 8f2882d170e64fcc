"""Kandinsky 5 Image with random weights, small enough to draw in a second."""

from __future__ import annotations

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
)
from transformers import CLIPTextModel

from tests.pipelines.diffusion.tiny.stable_diffusion import text_config, tokenizer, vae_of_eight
from tests.pipelines.diffusion.tiny.text import qwen_2_5_vl, qwen_tokenizer


def build_pipeline() -> Kandinsky5T2IPipeline:
    """Pictures of 1024x1024 pixels: the call knows no smaller ones."""
    torch.manual_seed(7)
    return Kandinsky5T2IPipeline(
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=16,
            time_dim=16,
            patch_size=(1, 2, 2),
            model_dim=16,
            ff_dim=16,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(2, 2, 4),
            visual_cond=False,
            attention_type="regular",
        ).eval(),
        vae=vae_of_eight(mid_block_add_attention=False),
        text_encoder=qwen_2_5_vl(16),
        tokenizer=qwen_tokenizer(),
        text_encoder_2=CLIPTextModel(text_config(max_position_embeddings=77)).eval(),
        tokenizer_2=tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
