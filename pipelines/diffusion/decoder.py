"""Latents to pictures beside the steps, on a CUDA stream of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class _Decoding(Generic[Key]):
    key: Key
    picture: Tensor  # in pinned memory
    done: Any  # a CUDA event, after which the picture is there


class Decoder(Generic[Key]):
    """Decodes on CUDA while the engine's thread goes on asking for steps.

    ``key`` is whatever the caller knows the latents by. Pictures are handed back in the order of
    submission.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, Any] = {}
        self._decoding: deque[_Decoding[Key]] = deque()

    def submit(self, key: Key, decode: Callable[[Tensor], Tensor], latents: Tensor) -> None:
        """Raises whatever ``decode`` raises. The latents must not be written to afterwards."""
        stream = self._stream(latents.device)
        stream.wait_stream(torch.cuda.current_stream(latents.device))
        with torch.cuda.stream(stream):
            decoded = decode(latents)
            picture = torch.empty(decoded.shape, dtype=decoded.dtype, pin_memory=True)
            picture.copy_(decoded, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(stream)
        # The caller may drop its last reference before this stream is through with them.
        latents.record_stream(stream)
        self._decoding.append(_Decoding(key, picture, done))

    def ready(self) -> list[tuple[Key, Tensor]]:
        """What is done since the last call, on the CPU."""
        pictures = []
        while self._decoding and self._decoding[0].done.query():
            decoding = self._decoding.popleft()
            pictures.append((decoding.key, decoding.picture))
        return pictures

    def wait(self) -> list[tuple[Key, Tensor]]:
        """As ``ready``, but at least one, unless nothing is decoded."""
        if self._decoding:
            self._decoding[0].done.synchronize()
        return self.ready()

    def _stream(self, device: torch.device) -> Any:
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._streams[device]
