"""Who serves: the engine by steps, or diffusers' own pipeline by calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.bench.errors import BenchError
from pipelines.bench.plan import BATCH, ArmName
from pipelines.bench.subject import Subject
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.request import Failure, Progress, Request, Result


@dataclass(frozen=True, slots=True)
class Picture:
    """Finished: (height, width, 3) uint8."""

    request_id: str
    image: NDArray[np.uint8]


class Arm(Protocol):
    """Takes requests at any time, and works on those it has in pieces that it cannot interrupt."""

    steps_done: int
    """Denoising steps of all pictures, so far."""

    @property
    def busy(self) -> bool: ...

    def accept(self, request: Request) -> None: ...

    def work(self) -> list[Picture]:
        """One piece of work, and the pictures that came of it. Raises BenchError."""

    def close(self) -> None:
        """Drops what it still has."""


class Arms:
    """Makes the arms of one run. One engine, warmed up, is behind all of step batching's."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._engine: DiffusionEngine | None = None

    def make(self, name: ArmName) -> Arm:
        """Ready to serve. An arm is closed before the next is made."""
        if name is ArmName.STEP:
            return StepBatching(self._warm_engine())
        return DiffusersCalls(self._subject.pipeline, BATCH if name is ArmName.STATIC else 1)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _warm_engine(self) -> DiffusionEngine:
        if self._engine is None:
            self._engine = self._subject.engine(BATCH)
            self._engine.warm_up()
        return self._engine


class StepBatching:
    """The engine, a step at a time."""

    def __init__(self, engine: DiffusionEngine) -> None:
        self._engine = engine
        self._accepted: list[str] = []
        self.steps_done = 0

    @property
    def busy(self) -> bool:
        return self._engine.has_work

    def accept(self, request: Request) -> None:
        self._engine.add(request)
        self._accepted.append(request.id)

    def work(self) -> list[Picture]:
        pictures = []
        for output in self._engine.step():
            match output:
                case Progress():
                    self.steps_done += 1
                case Result():
                    pictures.append(Picture(output.request_id, output.image))
                case Failure():
                    raise BenchError(f"A request failed in the engine: {output.reason}")
        return pictures

    def close(self) -> None:
        """The engine goes on."""
        for request_id in self._accepted:
            self._engine.abort(request_id)


class DiffusersCalls:
    """A diffusers pipeline, a call at a time, first come first served.

    A call takes up to ``batch`` of the queued requests that share the first one's step count,
    guidance scale and size, as a call must; it never waits for more to come. With a batch of 1 it
    is the plain loop.
    """

    def __init__(self, pipeline: Any, batch: int) -> None:
        self._pipeline = pipeline
        self._batch = batch
        self._queue: deque[Request] = deque()
        self.steps_done = 0

    @property
    def busy(self) -> bool:
        return bool(self._queue)

    def accept(self, request: Request) -> None:
        self._queue.append(request)

    def work(self) -> list[Picture]:
        batch = self._next_batch()
        images = call_pipeline(self._pipeline, batch)
        self.steps_done += sum(request.params.num_inference_steps for request in batch)
        return [Picture(request.id, image) for request, image in zip(batch, images, strict=True)]

    def close(self) -> None:
        self._queue.clear()

    def _next_batch(self) -> list[Request]:
        key = _call_key(self._queue[0])
        batch = [request for request in self._queue if _call_key(request) == key][: self._batch]
        taken = {request.id for request in batch}
        self._queue = deque(request for request in self._queue if request.id not in taken)
        return batch


def call_pipeline(pipeline: Any, batch: Sequence[Request]) -> NDArray[np.uint8]:
    """(len(batch), height, width, 3), each of its own seed."""
    params = batch[0].params
    images = pipeline(
        prompt=[request.params.prompt for request in batch],
        width=params.width,
        height=params.height,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(each.params.seed) for each in batch],
        output_type="pt",
    ).images
    pixels = images.float().permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
    result: NDArray[np.uint8] = pixels.cpu().numpy()
    return result


def _call_key(request: Request) -> tuple[int, float, int, int]:
    params = request.params
    return params.num_inference_steps, params.guidance_scale, params.width, params.height
