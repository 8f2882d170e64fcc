"""DeepFloyd IF with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnAddedKVProcessor

from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_pipeline(**checker: Any) -> IFPipeline:
    """Pictures of 32x32, without latents; ``checker`` are the parts of its safety checker."""
    torch.manual_seed(7)
    unet = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    ).eval()
    unet.set_attn_processor(AttnAddedKVProcessor())
    return IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(16),
        unet=unet,
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.0,
            variance_type="learned_range",
        ),
        watermarker=None,
        requires_safety_checker=bool(checker),
        **{"safety_checker": None, "feature_extractor": None} | checker,
    )
