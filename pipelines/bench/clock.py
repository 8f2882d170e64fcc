"""Seconds, by the wall or of the processor, of work on a device that may lag behind its host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float) -> None:
        """Lets so much of this clock's time pass."""


class WallClock:
    """Everyone's time: on a machine that does nothing else."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class CpuClock:
    """The processor's time for this process; to sleep is to skip.

    For one thread on a shared machine: it is what the wall would show were nobody else there,
    but for what others do to caches and clock rates.
    """

    def __init__(self) -> None:
        self._skipped = 0.0

    def now(self) -> float:
        return time.process_time() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


def synchronize(device: torch.device) -> None:
    """Waits for all that was asked of the device; on the CPU everything is done already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """From an idle device to an idle device."""
    synchronize(device)
    start = clock.now()
    work()
    synchronize(device)
    return clock.now() - start
