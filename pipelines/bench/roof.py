"""The machine's roof: how fast it multiplies matrices, in the dtype of the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipelines.bench.clock import Clock, seconds_of
from pipelines.bench.plan import Budget

_SIDE = {"cpu": 2048, "cuda": 8192}
_REPEATS = 8


@dataclass(frozen=True, slots=True)
class Roof:
    """``flops`` is per second, of the fastest product of two square matrices of ``side``."""

    side: int
    flops: float


def measure_roof(device: torch.device, dtype: torch.dtype, clock: Clock, limit_s: float) -> Roof:
    """On random numbers: a product of zeros can run faster."""
    side = _SIDE.get(device.type, 4096)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    budget = Budget(limit_s)
    seconds = [seconds_of(lambda: left @ right, device, clock) for _ in range(2)]
    while len(seconds) < _REPEATS and budget.left:
        seconds.append(seconds_of(lambda: left @ right, device, clock))
    return Roof(side, 2 * side**3 / min(seconds))
