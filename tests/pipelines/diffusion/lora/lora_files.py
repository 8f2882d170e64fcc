"""LoRA files with random weights for any pipeline, as trainers save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

Matrices = dict[str, tuple[Tensor, Tensor]]
"""Down and up of each layer, by part and name: "unet.down_blocks.0....to_q"."""


def matrices(
    pipeline: Any, seed: int, rank: int = 4, take: Callable[[str], bool] = lambda _: True
) -> Matrices:
    """For every Linear and Conv2d that takes a LoRA and whose name ``take`` likes."""
    generator = torch.Generator().manual_seed(seed)
    pairs: Matrices = {}
    for part in type(pipeline)._lora_loadable_modules:
        for name, layer in getattr(pipeline, part).named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and take(f"{part}.{name}"):
                width, channels, *kernel = layer.weight.shape
                down = torch.randn(rank, channels, *kernel, generator=generator)
                up = torch.randn(width, rank, *[1] * len(kernel), generator=generator)
                spread = (down[0].numel() * rank) ** 0.5
                pairs[f"{part}.{name}"] = down / spread, up / 2
    return pairs


def attention(name: str) -> bool:
    return any(mark in name for mark in (".attn", ".self_attn", ".attention."))


def save_peft(path: Path, pairs: Matrices) -> Path:
    """As diffusers' ``save_lora_weights`` names them."""
    state = {f"{name}.lora_A.weight": down for name, (down, _) in pairs.items()}
    state |= {f"{name}.lora_B.weight": up for name, (_, up) in pairs.items()}
    save_file(state, path)
    return path


def save_old_diffusers(path: Path, pairs: Matrices) -> Path:
    """As attention processors and text encoders held them before PEFT; attention layers only."""
    state: dict[str, Tensor] = {}
    for name, (down, up) in pairs.items():
        if name.startswith("text_encoder"):
            module = (
                f"{name.replace('text_encoder.', 'text_encoder.text_model.')}.lora_linear_layer"
            )
        else:
            parent, _, projection = name.removesuffix(".0").rpartition(".")
            module = f"{parent}.processor.{projection}_lora"
        state |= {f"{module}.down.weight": down, f"{module}.up.weight": up}
    save_file(state, path)
    return path


def save_kohya(path: Path, pairs: Matrices, alpha: Callable[[str], float]) -> Path:
    """As kohya's trainers name them, each layer with its alpha."""
    state: dict[str, Tensor] = {}
    for name, (down, up) in pairs.items():
        part, _, layer = name.partition(".")
        prefix = {"text_encoder": "lora_te_text_model", "unet": "lora_unet"}[part]
        module = f"{prefix}_{layer.replace('.', '_')}"
        state |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
        state[f"{module}.alpha"] = torch.tensor(alpha(name))
    save_file(state, path)
    return path
