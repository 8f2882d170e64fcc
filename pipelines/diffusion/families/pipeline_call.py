"""The whole call of a diffusers pipeline, made a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

StepCallback = Callable[[Tensor], None]


class PipelineCall:
    """Runs a call on a stack of its own, a greenlet, which stands still between two steps.

    A pipeline loops by itself and tells of a step by a callback. The greenlet belongs to the
    thread that advances it first; no other may. The call sees the context variables of whoever
    began it, and sets none outside.
    """

    def __init__(self, call: Callable[[StepCallback], Any]) -> None:
        """``call`` is to call its argument with the latents after each step.

        It must not hold the PipelineCall: what a standing greenlet holds is never collected.
        """
        self._greenlet = greenlet(call)
        self._greenlet.gr_context = copy_context()
        self._next: tuple[StepCallback, ...] = (_stand_still,)
        self.steps = 0
        """Steps made so far."""
        self.latents: Tensor | None = None
        """After the last step, as the pipeline tells them."""
        self.output: Any = None
        """What the call returned, once it is ``finished``."""

    @property
    def finished(self) -> bool:
        """Returned, raised or closed."""
        return bool(self._greenlet.dead)

    # torch's modes belong to the thread. Those that the call holds open over a step end within
    # this one, which gives back what was set outside.
    @torch.inference_mode()
    def advance(self) -> None:
        """To the end of the next step, or of the call; raises what the call raises."""
        self._greenlet.parent = getcurrent()
        given, self._next = self._next, ()
        value = self._greenlet.switch(*given)
        if self.finished:
            self.output = value
        else:
            self.steps += 1
            self.latents = value

    @torch.inference_mode()
    def close(self) -> None:
        """Unwinds the call where it stands; nothing more comes of it."""
        self._greenlet.parent = getcurrent()
        self._greenlet.throw()  # GreenletExit, which is no Exception that a pipeline catches

    def __del__(self) -> None:
        # ValueError: dropped by a thread that is not its own, to which greenlet leaves it;
        # RuntimeError: the interpreter ends.
        with suppress(ValueError, RuntimeError):
            self.close()


def _stand_still(latents: Tensor) -> None:
    getcurrent().parent.switch(latents)
