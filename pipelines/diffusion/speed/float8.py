"""Weights in eight bits, by torchao."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import nn

from pipelines.diffusion.errors import AccelerationError
from pipelines.diffusion.speed.acceleration import Float8

_CAPABILITY = (8, 9)  # Ada and later multiply in float8
_MULTIPLE = 16  # of both dimensions of a weight, which float8 matrix products want


def check_float8(kind: Float8, device: torch.device, dtype: torch.dtype) -> None:
    """``dtype`` is the weights'. Raises AccelerationError where it cannot work."""
    if kind is Float8.NEVER:
        return
    if find_spec("torchao") is None:
        raise AccelerationError(
            "float8 needs torchao; pip install 'sfumato[gpu]', or set float8 to 'never'."
        )
    able = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY
    if kind is Float8.DYNAMIC and not able:
        raise AccelerationError(
            "Computing in float8 needs a GPU of compute capability 8.9 or more; set float8 to"
            " 'weights' or 'never'."
        )
    if kind is Float8.DYNAMIC and dtype is not torch.bfloat16:
        raise AccelerationError(
            "Computing in float8 needs bfloat16 beside it; set dtype to 'bfloat16', or float8 to"
            " 'weights' or 'never'."
        )


def quantize(blocks: Sequence[nn.Module], kind: Float8) -> None:
    """The linear layers of ``blocks``, to float8 with a scale for each output channel.

    What surrounds the blocks (embeddings, the last projection) stays: it is small and sensitive.
    """
    if kind is Float8.NEVER:
        return
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Float8WeightOnlyConfig,
        PerRow,
        quantize_,
    )

    # torchao would else set torch's float32 precision and the compiler's tuning, for all models.
    config = (
        Float8WeightOnlyConfig(set_inductor_config=False)
        if kind is Float8.WEIGHTS
        else Float8DynamicActivationFloat8WeightConfig(
            granularity=PerRow(), set_inductor_config=False
        )
    )
    for block in blocks:
        quantize_(block, config, filter_fn=_fits)


def _fits(module: nn.Module, _name: str) -> bool:
    return isinstance(module, nn.Linear) and not (
        module.in_features % _MULTIPLE or module.out_features % _MULTIPLE
    )
