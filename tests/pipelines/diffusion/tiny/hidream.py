"""HiDream-I1 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
)
from transformers import CLIPTextModelWithProjection, LlamaConfig, LlamaForCausalLM

from tests.pipelines.diffusion.tiny.stable_diffusion import text_config, tokenizer, vae
from tests.pipelines.diffusion.tiny.text import fast_tokenizer, t5_encoder, t5_tokenizer


def build_pipeline() -> HiDreamImagePipeline:
    """Pictures of about 256x256 pixels: the call brings all sizes to 128 latents squared."""
    torch.manual_seed(7)
    clip = text_config(projection_dim=16, max_position_embeddings=128)
    return HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        ),
        text_encoder=CLIPTextModelWithProjection(clip).eval(),
        tokenizer=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip).eval(),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5_encoder(16),
        tokenizer_3=t5_tokenizer(),
        text_encoder_4=LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=256,
            )
        ).eval(),
        tokenizer_4=fast_tokenizer(model_max_length=256),
        transformer=HiDreamImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=[16, 16],
            text_emb_dim=32,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(128, 128),
            llama_layers=(0, 1),
        ).eval(),
    )
