"""How much a device has left, and what a step takes of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch


def release_memory() -> None:
    """Gives back what nobody uses, once memory ran out."""
    gc.collect()  # modules with hooks or captured graphs refer to themselves
    torch.cuda.empty_cache()  # nothing where there is no CUDA


class DeviceMemory:
    """Bytes of a CUDA device. Of other devices nothing is known: the system pages or ends us."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int | None:
        """What can be allocated, torch's own cache included; None where it is not known."""
        if self._device.type != "cuda":
            return None
        cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(
            self._device
        )
        return torch.cuda.mem_get_info(self._device)[0] + cached

    def peak_of(self, work: Callable[[], Any]) -> int | None:
        """The most bytes that ``work`` held at once beside what lay there before."""
        if self._device.type != "cuda":
            work()
            return None
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device) - before
