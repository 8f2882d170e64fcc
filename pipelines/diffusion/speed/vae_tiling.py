"""When latents are decoded piecewise."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pipelines.diffusion.speed.acceleration import Use
from pipelines.diffusion.speed.device_memory import DeviceMemory


class VaeTiling:
    """Decides by memory whether to decode in tiles, which blends their seams and is not exact."""

    def __init__(self, use: Use, memory_bytes: int | None = None) -> None:
        """``memory_bytes`` is what a decode may take; None for what is free on a CUDA device."""
        self._use = use
        self._memory_bytes = memory_bytes

    def wanted(self, vae: Any, latents: Tensor) -> bool:
        """Whether to call the VAE's ``tiled_decode``. A VAE without one never wants it."""
        if self._use is not Use.AUTO or not hasattr(vae, "tiled_decode"):
            return self._use is Use.ALWAYS
        room = self._memory_bytes
        if room is None:
            room = DeviceMemory(latents.device).free()
        return room is not None and decode_bytes(vae, latents) > room


def decode_bytes(vae: Any, latents: Tensor) -> int:
    """Predicted, beside the weights, for latents of (rows, channels, height, width).

    The first residual block at the picture's resolution is the largest: its input has the width
    of the stage before, and lives beside its norm and activation, or beside four tensors of its
    own width. Counted on AutoencoderKL; see docs/decisions/0011-acceleration.md.
    """
    narrow, *wider = vae.config.block_out_channels
    wide = wider[0] if wider else narrow
    rows, _, height, width = latents.shape
    pixels = rows * height * width * 4 ** len(wider)
    return int(max(3 * wide, wide + 4 * narrow) * pixels * vae.dtype.itemsize)
