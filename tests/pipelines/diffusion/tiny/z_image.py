"""Z-Image with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Model

from tests.pipelines.diffusion.tiny.stable_diffusion import vae
from tests.pipelines.diffusion.tiny.text import qwen3_config, qwen_tokenizer


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
        tokenizer=qwen_tokenizer(),
        text_encoder=Qwen3Model(qwen3_config(16)).eval(),
        transformer=transformer,
        vae=vae(scaling_factor=0.3611, shift_factor=0.1159),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic_shifting),
    )
