"""Picture sizes of a model, out of the configurations of its parts. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# diffusers' pipelines refuse sizes that are no multiple of this.
PIXEL_MULTIPLE = 8

_WIDESPREAD_SIDE = 1024  # of models that say nothing
_WIDESPREAD_FACTOR = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """In pixels: the picture by default, what both sides are multiples of, a latent's side."""

    width: int
    height: int
    multiple: int
    latent: int


def sizes_of(denoiser: dict[str, Any], decoder: dict[str, Any] | None) -> Sizes:
    """For a pipeline of any class, whose call has the last word.

    ``decoder`` makes pixels of latents; None for a pipeline that denoises pixels.
    """
    factor = 1 if decoder is None else _factor(decoder)
    size = denoiser.get("sample_size") or _WIDESPREAD_SIDE // factor
    height, width = size if isinstance(size, list) else (size, size)
    multiple = math.lcm(PIXEL_MULTIPLE, factor * _patch(denoiser, decoder or {}))
    return Sizes(width * factor, height * factor, multiple, factor)


def _factor(decoder: dict[str, Any]) -> int:
    """A level of the decoder doubles the side; the last one does not."""
    stated = decoder.get("spatial_compression_ratio") or decoder.get("scale_factor_spatial")
    levels = next(
        (
            decoder[name]
            for name in ("block_out_channels", "encoder_block_out_channels", "dim_mult")
            if decoder.get(name)
        ),
        None,
    )
    if stated:
        return int(stated)
    return _WIDESPREAD_FACTOR if levels is None else 2 ** (len(levels) - 1)


def _patch(denoiser: dict[str, Any], decoder: dict[str, Any]) -> int:
    """Latents along a token's side; some pipelines pack two by two into channels beforehand."""
    stated = denoiser.get("patch_size") or 1
    stated = stated[-1] if isinstance(stated, list) else stated
    channels = decoder.get("latent_channels") or decoder.get("z_dim") or 0
    packed = channels > 0 and denoiser.get("in_channels") == 4 * channels
    return max(int(stated), 2 if packed else 1)
