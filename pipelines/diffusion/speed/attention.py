"""By which kernels a denoiser attends."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn.attention import activate_flash_attention_impl

from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.speed.acceleration import AttentionBackend

logger = logging.getLogger(__name__)

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


def set_attention(denoiser: Any, backend: AttentionBackend, asked: bool) -> AttentionBackend:
    """``backend`` as ``choose_attention`` gives it. Returns what it attends by.

    FlashAttention 3 takes the place of 2 within torch's SDPA, for the whole process. What does not
    start is an AccelerationError where it was ``asked`` for; else SDPA goes on, with a warning.
    """
    try:
        if backend is AttentionBackend.FLASH3:
            activate_flash_attention_impl("FA3")
        elif backend is AttentionBackend.XFORMERS:
            _set_xformers(denoiser)
    except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
        if asked:
            raise AccelerationError(
                f"Attention by {backend} does not start; set attention to 'auto'. {error}"
            ) from error
        logger.warning("Attention by %s does not start, so by SDPA: %s", backend, error)
        return AttentionBackend.SDPA
    return backend


def _set_xformers(denoiser: Any) -> None:
    processors = [getattr(each, "processor", None) for each in denoiser.modules()]
    if any(hasattr(each, "_attention_backend") for each in processors):
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
