"""How much a device has left, and what a step takes of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

_NO_POOL = (0, 0)


def release_memory() -> None:
    """Gives back what nobody uses, once memory ran out."""
    gc.collect()  # modules with hooks or captured graphs refer to themselves
    torch.cuda.empty_cache()  # nothing where there is no CUDA


class DeviceMemory:
    """Bytes of a CUDA device. Of other devices nothing is known: the system pages or ends us."""

    def __init__(self, device: torch.device) -> None:
        """Its index is that of a device's tensors, if it is a CUDA device."""
        self._device = device

    def free(self) -> int | None:
        """What can be allocated, torch's own cache included; None where it is not known.

        What CUDA graphs keep for their replays is no cache: no other pass can have it.
        """
        if self._device.type != "cuda":
            return None
        cached = sum(
            segment["total_size"] - segment["allocated_size"]
            for segment in torch.cuda.memory_snapshot(include_traces=False)  # type: ignore[no-untyped-call]
            if segment["segment_pool_id"] == _NO_POOL and segment["device"] == self._device.index
        )
        return int(torch.cuda.mem_get_info(self._device)[0] + cached)

    def peak_of(self, work: Callable[[], Any]) -> int | None:
        """The most bytes that ``work`` held at once beside what lay there before."""
        if self._device.type != "cuda":
            work()
            return None
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device) - before
