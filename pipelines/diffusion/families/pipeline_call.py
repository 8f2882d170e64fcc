"""The whole call of a diffusers pipeline, made a step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

StepCallback = Callable[[Tensor], None]


class PipelineCall:
    """Runs a call in a thread of its own, which moves only while another waits in ``advance``.

    A pipeline loops by itself and tells of a step by a callback, so to stand still between two
    steps takes a stack of its own. The thread that advances is never at work at the same time.
    """

    def __init__(self, call: Callable[[StepCallback], Any]) -> None:
        """``call`` is to call its argument with the latents after each step."""
        self._call = call
        self._go = threading.Semaphore(0)
        self._stood_still = threading.Semaphore(0)
        self._closing = False
        self._error: BaseException | None = None
        self.steps = 0
        """Steps made so far."""
        self.latents: Tensor | None = None
        """After the last step, as the pipeline tells them."""
        self.output: Any = None
        """What the call returned, once it is ``finished``."""
        self.finished = False
        self._thread = threading.Thread(target=self._run, name="pipeline-call", daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """To the end of the next step, or of the call; raises what the call raises."""
        self._go.release()
        self._stood_still.acquire()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds the call's tensors

    def close(self) -> None:
        """Ends the call where it stands; nothing more comes of it."""
        if not self.finished:
            self._closing = True
            self._go.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self._wait()
                self.output = self._call(self._on_step)
        except _ClosedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that advances
            self._error = error
        self.finished = True
        self._stood_still.release()

    def _on_step(self, latents: Tensor) -> None:
        self.steps += 1
        self.latents = latents
        self._stood_still.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._closing:
            raise _ClosedError


class _ClosedError(BaseException):
    """Unwinds the call; no pipeline catches what is not an Exception."""
