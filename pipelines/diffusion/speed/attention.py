"""By which kernels a denoiser attends."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.attention import activate_flash_attention_impl

from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.speed.acceleration import AttentionBackend

_HOPPER = 9  # the only compute capability that torch runs FlashAttention 3 on


def choose_attention(
    wanted: AttentionBackend, device: torch.device, dtype: torch.dtype
) -> AttentionBackend:
    """Raises AccelerationError for one that was asked for and cannot work here."""
    obstacle = _flash3_obstacle(device, dtype)
    if wanted is AttentionBackend.AUTO:
        return AttentionBackend.SDPA if obstacle else AttentionBackend.FLASH3
    if wanted is AttentionBackend.XFORMERS:
        obstacle = _xformers_obstacle(device)
    if wanted is not AttentionBackend.SDPA and obstacle:
        raise AccelerationError(f"{obstacle}, or set attention to 'auto'.")
    return wanted


def set_attention(denoiser: Any, backend: AttentionBackend) -> None:
    """``backend`` as ``choose_attention`` gives it.

    FlashAttention 3 takes the place of 2 within torch's SDPA, for the whole process.
    """
    if backend is AttentionBackend.FLASH3:
        activate_flash_attention_impl("FA3")
    elif backend is AttentionBackend.XFORMERS:
        if any(hasattr(each, "_attention_backend") for each in denoiser.attn_processors.values()):
            denoiser.set_attention_backend("xformers")
        else:
            denoiser.enable_xformers_memory_efficient_attention()


def _flash3_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != _HOPPER:
        return "FlashAttention 3 needs a Hopper GPU; load the model on one"
    if dtype not in (torch.bfloat16, torch.float16):
        return "FlashAttention 3 needs half precision; set dtype to 'bfloat16'"
    try:
        import_module("flash_attn_interface")
    except (ImportError, OSError, RuntimeError):  # missing, or built for another torch
        return "FlashAttention 3 is not installed; install a flash_attn_interface for this torch"
    return None


def _xformers_obstacle(device: torch.device) -> str | None:
    if device.type != "cuda":
        return "xformers needs a CUDA device; load the model on one"
    if find_spec("xformers") is None:
        return "xformers is not installed; pip install xformers"
    return None
