"""Sana and Sana-Sprint with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from transformers import Gemma2Model

from tests.pipelines.diffusion.tiny.text import gemma2_config, gemma_tokenizer


def build_pipeline() -> SanaPipeline:
    """It draws 512x512 pixels whatever is asked for, and shrinks them."""
    torch.manual_seed(7)
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return SanaPipeline(scheduler=scheduler, **_parts(sample_size=16))


def build_sprint() -> SanaSprintPipeline:
    """1024x1024 pixels, as it knows no smaller ones."""
    torch.manual_seed(7)
    parts = _parts(32, qk_norm="rms_norm_across_heads", guidance_embeds=True)
    return SanaSprintPipeline(scheduler=SCMScheduler(), **parts)


def _parts(sample_size: int, **transformer: Any) -> dict[str, Any]:
    return {
        "tokenizer": gemma_tokenizer(),
        "text_encoder": Gemma2Model(gemma2_config(8)).eval(),
        "transformer": SanaTransformer2DModel(
            sample_size=sample_size,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=8,
            **transformer,
        ).eval(),
        "vae": AutoencoderDC(
            latent_channels=4,
            attention_head_dim=8,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ).eval(),
    }
