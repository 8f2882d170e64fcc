"""Z-Image with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import string

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from tests.pipelines.diffusion.tiny.stable_diffusion import vae

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
)


def build_pipeline(*, dynamic_shifting: bool = False) -> ZImagePipeline:
    """Pictures of multiples of 8 pixels: four to a latent and two latents to a token, a side."""
    torch.manual_seed(7)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 4, 4],
        axes_lens=[1024, 64, 64],
    ).eval()
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token)  # zeros, as they come, would hide whether they are seen
    return ZImagePipeline(
        tokenizer=tokenizer(),
        text_encoder=Qwen3Model(text_config()).eval(),
        transformer=transformer,
        vae=vae(scaling_factor=0.3611, shift_factor=0.1159),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic_shifting),
    )


def tokenizer() -> Qwen2Tokenizer:
    """One token a letter, with the chat template that the pipeline asks for."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", *string.ascii_lowercase]
    return Qwen2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=_CHAT_TEMPLATE,
    )


def text_config() -> Qwen3Config:
    return Qwen3Config(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=0,
    )
