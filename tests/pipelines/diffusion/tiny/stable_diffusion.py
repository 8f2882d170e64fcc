"""Stable Diffusion with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}


def build_pipeline(**unet: Any) -> StableDiffusionPipeline:
    """Pictures of 64x64 by default; ``unet`` overrides the UNet's configuration."""
    torch.manual_seed(7)
    return StableDiffusionPipeline(
        tokenizer=tokenizer(),
        text_encoder=CLIPTextModel(text_config()).eval(),
        unet=UNet2DConditionModel(**UNET | unet).eval(),
        vae=vae(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tokenizer() -> CLIPTokenizer:
    """One token a letter, 16 at most."""
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for token in [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]:
        vocabulary[token] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def text_config(**overrides: Any) -> CLIPTextConfig:
    configuration = {
        "vocab_size": 2 + 2 * len(_LETTERS),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return CLIPTextConfig(**configuration | overrides)


def vae(**overrides: Any) -> AutoencoderKL:
    """Four pixels to a latent, along each side."""
    configuration: dict[str, Any] = {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "sample_size": 64,
    }
    return AutoencoderKL(**configuration | overrides).eval()


def vae_of_eight(**overrides: Any) -> AutoencoderKL:
    """Eight pixels to a latent, which some pipelines take for granted."""
    return vae(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **overrides,
    )


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
