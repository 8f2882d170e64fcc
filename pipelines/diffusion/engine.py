"""The engine: requests join and leave between denoising steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.batcher import StepBatcher
from pipelines.diffusion.cost import CostModel
from pipelines.diffusion.errors import DiffusionError, RequestError, WarmUpError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.request import (
    EngineStats,
    Failure,
    Output,
    Progress,
    Request,
    Result,
    SamplingParams,
)
from pipelines.diffusion.trajectory import Trajectory

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """A request that has begun."""

    request: Request
    trajectory: Trajectory
    joined: float  # by the engine's clock


class DiffusionEngine:
    """Draws many requests at once, a step at a time. For one thread; see ``EngineRunner``.

    A request's own failure (its prompt, its noise scheduler, its latents, its picture) never
    touches its batch-mates. Only a broken device raises out of ``step``.
    """

    def __init__(
        self,
        family: Family,
        max_batch: int = 8,
        clock: Callable[[], float] = time.monotonic,
        cost: CostModel | None = None,
    ) -> None:
        """``max_batch`` is in requests; ``clock`` is in seconds."""
        self.family = family
        self.cost = cost or CostModel()
        self._clock = clock
        self._batcher = StepBatcher(max_batch, clock)
        self._requests: dict[str, Request] = {}  # all that are in
        self._running: dict[str, _Running] = {}  # those that have begun
        self._outputs: list[Output] = []  # of the step that is being made
        self._stats = EngineStats()
        self.longest_step = 0.0
        """In seconds: the slowest step so far, encoding and decoding included."""

    @property
    def max_batch(self) -> int:
        """The most requests in a step; lower than given once the device ran out of memory."""
        return self._batcher.max_batch

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    @property
    def free_slots(self) -> int:
        """How many more requests would take part in the next step."""
        return max(0, self.max_batch - len(self._requests))

    def stats(self) -> EngineStats:
        return replace(self._stats, active=self._batcher.active, waiting=self._batcher.waiting)

    def add(self, request: Request) -> None:
        """Takes part from the next step on, or waits for a slot. ValueError if it is in already."""
        self._batcher.add(request.id, self.family.batch_key(request.params))
        self._requests[request.id] = request

    def abort(self, request_id: str) -> bool:
        """Leaves at once, with no output; whether it was here."""
        if request_id not in self._requests:
            return False
        self._leave(request_id)
        self._stats = replace(self._stats, aborted=self._stats.aborted + 1)
        return True

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """One denoising step of one batch, and what came of it."""
        start = self._clock()
        batch = self._schedule()
        predictions = self._denoise(batch)
        self._update(predictions)
        self.longest_step = max(self.longest_step, self._clock() - start)
        outputs, self._outputs = self._outputs, []
        return outputs

    def warm_up(self) -> None:
        """Draws a first picture, so that what is lazy is done and a step's cost is known.

        Raises WarmUpError if the model cannot draw.
        """
        model = self.family.description
        params = SamplingParams(
            prompt="sfumato",
            width=model.default_width,
            height=model.default_height,
            num_inference_steps=4,
            guidance_scale=5.0,
            seed=0,
        )
        self.add(Request("warm-up", params, preview_every=1))
        outputs = self.step()
        self.cost.clear()  # the first step is slow in ways that no other will be
        while self.has_work:
            outputs += self.step()
        if isinstance(outputs[-1], Failure):
            raise WarmUpError(f"The model drew no first picture: {outputs[-1].reason}")
        self._stats = EngineStats()

    def _schedule(self) -> list[_Running]:
        """Who takes this step; those new to it are encoded and given their first latents."""
        batch = []
        for request_id in self._batcher.next_batch():
            with self._isolated(request_id):
                if request_id not in self._running:
                    self._running[request_id] = self._begin(self._requests[request_id])
                batch.append(self._running[request_id])
        return batch

    def _denoise(self, batch: list[_Running]) -> list[tuple[_Running, Tensor]]:
        """The model's prediction for each; a pass that raises is halved until the guilty is alone.

        Out of memory goes the same way, and the smaller batch is remembered.
        """
        predictions: list[tuple[_Running, Tensor]] = []
        if len(batch) <= 1:
            for running in batch:
                with self._isolated(running.request.id):
                    predictions = self._predict(batch)
            return predictions
        try:
            return self._predict(batch)
        except torch.AcceleratorError:
            raise
        except torch.OutOfMemoryError:
            self._batcher.limit(len(batch) // 2)
        except Exception:  # noqa: BLE001, S110 - comes again from the guilty one, when it is alone
            pass
        middle = len(batch) // 2
        return self._denoise(batch[:middle]) + self._denoise(batch[middle:])

    def _update(self, predictions: list[tuple[_Running, Tensor]]) -> None:
        """Each request's own noise scheduler takes its step; who is done is decoded and leaves."""
        for running, prediction in predictions:
            with self._isolated(running.request.id):
                self._advance(running, prediction)
                if running.trajectory.finished:
                    self._finish(running)

    def _begin(self, request: Request) -> _Running:
        joined = self._clock()
        conditioning = self.family.encode(request.params)
        return _Running(request, self.family.prepare(request.params, conditioning), joined)

    def _predict(self, batch: list[_Running]) -> list[tuple[_Running, Tensor]]:
        start = self._clock()
        predictions = self.family.denoise([running.trajectory for running in batch])
        # The step's one wait for the device; it ends the forward pass for the clock as well.
        finite = torch.stack([each.isfinite().all() for each in predictions]).tolist()
        self._observe(batch, self._clock() - start)
        sound = []
        for running, prediction, is_finite in zip(batch, predictions, finite, strict=True):
            if is_finite:
                sound.append((running, prediction))
            else:
                self._fail(running.request.id, RequestError(_NOT_FINITE))
        return sound

    def _observe(self, batch: list[_Running], seconds: float) -> None:
        rows = sum(running.trajectory.conditioning.rows for running in batch)
        params = batch[0].request.params
        self.cost.observe(params.width * params.height, rows, seconds)
        self._stats = replace(
            self._stats,
            steps=self._stats.steps + 1,
            rows=self._stats.rows + len(batch),
            denoise_seconds=self._stats.denoise_seconds + seconds,
        )

    def _advance(self, running: _Running, prediction: Tensor) -> None:
        request, trajectory = running.request, running.trajectory
        before = trajectory.steps_done
        wanted = _preview_is_due(request, trajectory)
        preview = self.family.preview(trajectory, prediction) if wanted else None
        trajectory.advance(prediction)
        if trajectory.steps_done > before:
            self._outputs.append(
                Progress(request.id, trajectory.steps_done, trajectory.steps, preview)
            )

    def _finish(self, running: _Running) -> None:
        picture = self.family.decode(running.trajectory.latents)
        if not picture.isfinite().all():
            raise RequestError(_NOT_FINITE)
        seconds = self._clock() - running.joined
        self._outputs.append(Result(running.request.id, _to_bytes(picture), seconds))
        self._leave(running.request.id)
        self._stats = replace(self._stats, finished=self._stats.finished + 1)

    @contextmanager
    def _isolated(self, request_id: str) -> Iterator[None]:
        """What a request's own part raises, whatever it is, fails that request and no other."""
        try:
            yield
        except torch.AcceleratorError:
            raise  # the device is broken; no request is to blame
        except Exception as error:  # noqa: BLE001 - the boundary between one request and the rest
            self._fail(request_id, error)

    def _fail(self, request_id: str, error: Exception) -> None:
        reason = str(error)
        if not isinstance(error, DiffusionError):
            logger.error("Request %s failed.", request_id, exc_info=error)
            reason = f"{type(error).__name__}: {error}"
        self._outputs.append(Failure(request_id, reason))
        self._leave(request_id)
        self._stats = replace(self._stats, failed=self._stats.failed + 1)

    def _leave(self, request_id: str) -> None:
        self._batcher.remove(request_id)
        del self._requests[request_id]
        running = self._running.pop(request_id, None)
        if running is not None:
            running.trajectory.release()


_NOT_FINITE = "The model's output was not a number; try other parameters or another dtype."


def _preview_is_due(request: Request, trajectory: Trajectory) -> bool:
    """Whether the step about to be made is one to show; the last is shown by the picture."""
    step = trajectory.steps_after_next
    due = request.preview_every > 0 and step > trajectory.steps_done
    return due and step % request.preview_every == 0 and step < trajectory.steps


def _to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(1, 3, height, width) from 0 to 1 to (height, width, 3), as diffusers rounds."""
    image: NDArray[np.uint8] = (
        picture[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).cpu().numpy()
    )
    return np.ascontiguousarray(image)
