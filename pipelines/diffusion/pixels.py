"""Pictures from clients as tensors for the models."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def picture_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(height, width, 3) to (1, 3, height, width) from -1 to 1."""
    return unit_tensor(image) * 2 - 1


def unit_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(height, width, 3) to (1, 3, height, width) from 0 to 1."""
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def mask_tensor(mask: NDArray[np.uint8], factor: int = 1) -> Tensor:
    """(height, width) to (1, 1, height / factor, width / factor): 1 where the mask is 128 or more.

    By the nearest pixel, as diffusers brings masks to the latents' size.
    """
    hard = torch.from_numpy((mask >= 128).astype(np.float32))[None, None]
    if factor == 1:
        return hard
    return functional.interpolate(hard, size=(mask.shape[0] // factor, mask.shape[1] // factor))
