"""The same families with few and narrow layers, to see in seconds that a run works."""

from __future__ import annotations

from functools import partial

from pipelines.bench.architectures import flux, stable_diffusion, z_image
from pipelines.bench.architectures import stable_diffusion_3 as sd3
from pipelines.bench.architectures import stable_diffusion_xl as sdxl

SIZE = 64
"""Pixels a side."""

_NARROW_VAE = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}
_NARROW_UNET = {"layers_per_block": 1, "norm_num_groups": 4}

sd15 = partial(
    stable_diffusion.sd15,
    unet=stable_diffusion.UNET
    | _NARROW_UNET
    | {
        "block_out_channels": (8, 16, 16, 16),
        "attention_head_dim": 4,
        "cross_attention_dim": 64,
    },
    vae=stable_diffusion.VAE | _NARROW_VAE,
)
xl = partial(
    sdxl.sdxl,
    unet=sdxl.UNET
    | _NARROW_UNET
    | {
        "block_out_channels": (8, 16, 16),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 4, 4),
    },
    vae=sdxl.VAE | _NARROW_VAE,
)
medium = partial(
    sd3.sd3_medium,
    transformer=sd3.TRANSFORMER
    | {
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 2048,  # of both CLIP encoders
        "caption_projection_dim": 32,
    },
    vae=sd3.VAE | _NARROW_VAE,
)
dev = partial(
    flux.flux_dev,
    transformer=flux.TRANSFORMER
    | {
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 64,
        "axes_dims_rope": (4, 6, 6),
    },
    vae=flux.VAE | _NARROW_VAE,
)
turbo = partial(
    z_image.z_image,
    transformer=z_image.TRANSFORMER
    | {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 64,
        "axes_dims": [4, 6, 6],
        "axes_lens": [1024, 512, 512],
    },
    vae=flux.VAE | _NARROW_VAE,
)
