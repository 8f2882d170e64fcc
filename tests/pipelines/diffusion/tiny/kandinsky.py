"""Kandinsky 2.2 and 3 with random weights, small enough to draw in milliseconds."""

from __future__ import annotations

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    KandinskyV22CombinedPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tests.pipelines.diffusion.tiny.stable_diffusion import text_config, tokenizer
from tests.pipelines.diffusion.tiny.text import t5_encoder, t5_tokenizer


def build_2_2() -> KandinskyV22CombinedPipeline:
    """Its prior draws the embedding of a picture, of which the decoder draws the picture."""
    torch.manual_seed(7)
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=16,
        num_layers=1,
        num_embeddings=16,
    ).eval()
    nn.init.ones_(prior.clip_std)  # zeros, as they come, would hide the prompt
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return KandinskyV22CombinedPipeline(
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            encoder_hid_dim=16,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=4,
            resnet_time_scale_shift="scale_shift",
        ).eval(),
        scheduler=DDIMScheduler(
            beta_schedule="linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        movq=_movq(),
        prior_prior=prior,
        prior_image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        prior_text_encoder=CLIPTextModelWithProjection(text_config(projection_dim=16)).eval(),
        prior_tokenizer=tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample=True,
            clip_sample_range=10.0,
        ),
        prior_image_processor=CLIPImageProcessor(crop_size=32, size=32),
    )


def build_3() -> Kandinsky3Pipeline:
    torch.manual_seed(7)
    return Kandinsky3Pipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(16),
        unet=Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=4,
            groups=2,
            attention_head_dim=4,
            layers_per_block=3,
            block_out_channels=(8, 16),
            cross_attention_dim=4,
            encoder_hid_dim=16,
        ).eval(),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True),
        movq=_movq(),
    )


def _movq() -> VQModel:
    """Eight pixels to a latent, along each side."""
    return VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    ).eval()
