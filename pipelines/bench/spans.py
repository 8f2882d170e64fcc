"""Where the time of a step goes."""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.bench.clock import Clock, synchronize
from pipelines.bench.subject import Subject

LOOP = "engine"
_OF_THE_FAMILY = ("encode", "prepare", "denoise", "decode", "preview")
_OF_THE_SCHEDULER = ("scale_model_input", "step", "set_timesteps")


class Spans:
    """Seconds of each part of the work, each without the parts within it.

    The device is waited for at both ends of a part. On the CPU that is nothing; on CUDA it makes
    visible what the device would have hidden, so that the host's parts are upper bounds there.
    """

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._threads = threading.local()
        self._own: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its own seconds counted under ``name``."""

        @functools.wraps(function)
        def call(*positional: Any, **named: Any) -> Any:
            synchronize(self._device)
            within = self._within()
            within.append(0.0)
            start = self._clock.now()
            try:
                return function(*positional, **named)
            finally:
                synchronize(self._device)
                seconds = self._clock.now() - start
                self._own[name] += seconds - within.pop()
                if within:
                    within[-1] += seconds

        return call

    def _within(self) -> list[float]:
        """Seconds of the parts within each part that is under way in this thread."""
        if not hasattr(self._threads, "within"):
            self._threads.within = []
        within: list[float] = self._threads.within
        return within

    def take(self) -> dict[str, float]:
        """What was counted since the last time."""
        own, self._own = dict(self._own), defaultdict(float)
        return own


@contextmanager
def watched(subject: Subject) -> Iterator[Spans]:
    """Counts the denoiser, the noise scheduler and the family's verbs until it is left."""
    spans = Spans(subject.device, subject.clock)
    targets = [(subject.denoiser, "forward", "denoiser")]
    targets += [(subject.family, name, name) for name in _OF_THE_FAMILY]
    scheduler = type(subject.pipeline.scheduler)
    targets += [
        (scheduler, name, "scheduler") for name in _OF_THE_SCHEDULER if hasattr(scheduler, name)
    ]
    restored = []
    for owner, attribute, name in targets:
        restored.append((owner, attribute, vars(owner).get(attribute)))
        setattr(owner, attribute, spans.timed(name, getattr(owner, attribute)))
    try:
        yield spans
    finally:
        for owner, attribute, before in restored:
            if before is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, before)
