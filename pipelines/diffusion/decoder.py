"""Latents to pictures beside the step loop."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class _Task(Generic[Key]):
    key: Key
    decode: Callable[[Tensor], Tensor]
    latents: Tensor
    stream: Any  # to decode in; None on other devices than CUDA
    made: Any  # a CUDA event, after which the latents are there; None likewise


class Decoder(Generic[Key]):
    """Decodes in a thread of its own, on CUDA in a stream of its own, in the order of submission.

    ``key`` is whatever the caller knows the latents by. All methods are for the caller's thread
    alone.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, Any] = {}
        self._tasks: queue.SimpleQueue[_Task[Key] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Key, Tensor | Exception]] = queue.SimpleQueue()
        self._pending = 0
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Submitted and not handed back yet."""
        return self._pending

    def submit(self, key: Key, decode: Callable[[Tensor], Tensor], latents: Tensor) -> None:
        """``decode`` runs in the decoder's thread, under ``torch.inference_mode``.

        The latents must not be written to afterwards.
        """
        stream = made = None
        if latents.is_cuda:
            stream = self._stream(latents.device)
            made = torch.cuda.Event()  # type: ignore[no-untyped-call]
            made.record(torch.cuda.current_stream(latents.device))
        self._pending += 1
        self._tasks.put(_Task(key, decode, latents, stream, made))

    def ready(self) -> list[tuple[Key, Tensor | Exception]]:
        """What is done since the last call: pictures on the CPU, or what ``decode`` raised."""
        return [self._take() for _ in range(self._done.qsize())]

    def wait(self) -> list[tuple[Key, Tensor | Exception]]:
        """As ``ready``, but at least one, unless nothing is pending."""
        if not self._pending:
            return []
        return [self._take(), *self.ready()]

    def close(self) -> None:
        """Ends the thread after what is pending. Once."""
        self._tasks.put(None)
        self._thread.join()

    def _take(self) -> tuple[Key, Tensor | Exception]:
        self._pending -= 1
        return self._done.get()

    def _stream(self, device: torch.device) -> Any:
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._streams[device]

    @torch.inference_mode()
    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._done.put((task.key, _picture(task)))
            except Exception as error:  # noqa: BLE001 - the request's own; its owner decides
                self._done.put((task.key, error))
            del task  # or its latents would live until the next


def _picture(task: _Task[Key]) -> Tensor:
    with torch.cuda.stream(task.stream):
        if task.stream is not None:
            task.stream.wait_event(task.made)
            # The step loop may drop its last reference before this stream is through with them.
            task.latents.record_stream(task.stream)
        return task.decode(task.latents).cpu()  # waits for this stream alone
