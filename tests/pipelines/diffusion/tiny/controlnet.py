"""ControlNets with random weights for a tiny UNet."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel


def build_controlnet(unet: dict[str, Any], seed: int = 0, **overrides: Any) -> ControlNetModel:
    """``unet`` is the configuration of its UNet; four pixels to a latent."""
    torch.manual_seed(seed)
    shared = {
        name: unet[name]
        for name in (
            "layers_per_block",
            "block_out_channels",
            "down_block_types",
            "cross_attention_dim",
            "attention_head_dim",
            "norm_num_groups",
            "addition_embed_type",
            "addition_time_embed_dim",
            "projection_class_embeddings_input_dim",
            "transformer_layers_per_block",
            "use_linear_projection",
        )
        if name in unet
    }
    options = {"in_channels": 4, "conditioning_embedding_out_channels": (8, 8, 16)}
    controlnet = ControlNetModel(**shared | options | overrides)
    # They begin as zeros, which would steer nothing.
    for module in (
        controlnet.controlnet_mid_block,
        controlnet.controlnet_cond_embedding.conv_out,
        *controlnet.controlnet_down_blocks,
    ):
        torch.nn.init.normal_(module.weight, std=0.2)
    return controlnet.eval()
