"""What is asked of the hardware, a setting for each speed-up. Free of torch.

What "auto" means where, and the measurements behind it: docs/decisions/0011-acceleration.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Use(StrEnum):
    """``AUTO`` is on where it works and was found to pay; ``ALWAYS`` is on, or an error."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class AttentionBackend(StrEnum):
    """``AUTO`` is FlashAttention 3 (arXiv:2407.08608) where it is installed, else torch's SDPA."""

    AUTO = "auto"
    SDPA = "sdpa"
    XFORMERS = "xformers"
    FLASH3 = "flash3"


class Float8(StrEnum):
    """``WEIGHTS`` saves memory alone, ``DYNAMIC`` computes in float8 too. Both are lossy."""

    NEVER = "never"
    WEIGHTS = "weights"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceleration:
    """Speed-ups of one model.

    ``channels_last`` is the denoiser's memory format. Compiled and captured passes come in
    ``batch_buckets`` of rows (a guided picture has two): a batch is filled up to the next by
    repeating a row. ``decode_stream`` decodes beside the steps on CUDA. ``vae_tiling`` decodes
    piecewise, which shows faintly: by default where a decode would not fit into
    ``vae_memory_bytes``, or without that into what is free on the CUDA device.
    """

    attention: AttentionBackend = AttentionBackend.AUTO
    channels_last: Use = Use.AUTO
    vae_channels_last: Use = Use.AUTO
    compile: Use = Use.AUTO
    cuda_graphs: Use = Use.AUTO
    batch_buckets: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    decode_stream: Use = Use.AUTO
    vae_tiling: Use = Use.AUTO
    vae_memory_bytes: int | None = None
    prompt_cache_bytes: int = 64 * 2**20
    float8: Float8 = Float8.NEVER
