"""The engine: requests join and leave between denoising steps."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.diffusion.batching.batcher import StepBatcher
from pipelines.diffusion.batching.cost import CostModel, Profile
from pipelines.diffusion.decoder import Decoder
from pipelines.diffusion.entry import Entry, Running
from pipelines.diffusion.errors import DiffusionError, RequestError, UnsafePictureError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.pool import ModelPool, ModelSource
from pipelines.diffusion.request import (
    Displaced,
    EngineStats,
    Expired,
    Failure,
    Output,
    Progress,
    Request,
    Result,
    Step,
)
from pipelines.diffusion.speed.device_memory import DeviceMemory, release_memory
from pipelines.diffusion.trajectory import Trajectory
from pipelines.diffusion.warm_up import WarmUp

logger = logging.getLogger(__name__)

_STEP_SHARE = 0.8
_STEPS_KEPT = 10_000  # for whoever takes them; nobody may
_READING_SECONDS = 0.5  # how long a step without a batch waits for a model


class DiffusionEngine:
    """Draws many requests at once, a step at a time. For one thread, which owns the device.

    See ``EngineRunner`` for a thread of its own, and docs/decisions/0035-one-thread.md for why.

    A request's own failure (its prompt, its noise scheduler, its latents, its picture) never
    touches its batch-mates. Only a broken device raises out of ``step``.
    """

    def __init__(
        self,
        models: Model | ModelPool,
        max_batch: int = 8,
        clock: Callable[[], float] = time.monotonic,
        threads: int | None = None,
    ) -> None:
        """``max_batch`` is in requests; ``clock`` is in seconds.

        ``threads`` are those of the CPU that torch computes with from the warm-up on, 0 for as many
        as pay by its measurement; None leaves torch as it is.
        """
        self.models = models if isinstance(models, ModelPool) else ModelPool.of(models)
        self.costs = {name: CostModel() for name in self.models.names}
        self._warm_up = WarmUp(self.costs, max_batch, clock, threads)
        self.clock = clock
        self._batcher = StepBatcher(max_batch, clock)
        self._step_memory: int | None = None
        self._entries: dict[str, Entry] = {}  # all that are in
        self._arrivals: deque[Entry] = deque()  # those whose model is not there yet
        self._departures = 0  # of requests, so far
        self._undecoded: deque[Running] = deque()  # for want of memory, or in the background
        self._decoder: Decoder[Entry] | None = None  # once a family wants one
        self._outputs: list[Output] = []  # of the step that is being made
        self._stats = EngineStats()
        self._steps: deque[Step] = deque(maxlen=_STEPS_KEPT)
        self.longest_step = 0.0
        """In seconds: the slowest step so far, encoding and decoding included, of those that were
        not ``first_of_kind``."""
        self.expected_step = 0.0
        """In seconds: the step that is being made, as predicted before it began."""
        self.first_of_kind = False
        """Whether that step has no measured predecessor: of a size that was never drawn or decoded,
        or beside a model that loads. It may compile, allocate or read what no other will."""

    @property
    def max_batch(self) -> int:
        """The most requests in a step."""
        return self._batcher.max_batch

    @property
    def has_work(self) -> bool:
        return bool(self._entries)

    @property
    def free_slots(self) -> int:
        """How many more requests would take part in the next step."""
        return max(0, self.max_batch - len(self._foreground) + self._decoding)

    def stats(self) -> EngineStats:
        foreground, decoding = self._foreground, self._decoding
        active = sum(entry.has_begun and entry.request.id in self._batcher for entry in foreground)
        return replace(
            self._stats,
            active=active,
            waiting=len(foreground) - decoding - active,
            decoding=decoding,
            background=len(self._entries) - len(foreground),
        )

    def profiles(self) -> dict[str, Profile]:
        """What pictures cost, by model: of those that a step was made with."""
        profiles = {name: cost.profile() for name, cost in self.costs.items()}
        return {name: profile for name, profile in profiles.items() if profile["denoise"]}

    @torch.inference_mode()
    def warm_up(self, memory: DeviceMemory | None = None) -> None:
        """Before the first request: loads the default model, and makes it ready.

        Raises WarmUpError if it cannot draw, and whatever its loading raised.
        """
        self._warm_up.memory = memory
        self._warm_up.use_threads()
        name = self.models.default
        was_loaded = name in self.models.loaded
        model = self.models.load(name, self._make_ready)
        if was_loaded:
            for _ in self._make_ready(name, model):
                pass
        while self.tune():
            pass
        self.reset_stats()

    def change_models(self, add: Mapping[str, ModelSource], remove: Collection[str]) -> None:
        """Between two steps: models that are loaded at their first request, and models to give up.

        Requests that are drawn with one of the latter go on; those that wait for it fail.
        """
        for name, source in add.items():
            self.costs.setdefault(name, CostModel())
            self.models.add(name, source)
        for name in remove:
            self.models.remove(name)

    def generate(self, requests: Iterable[Request]) -> Iterator[Output]:
        """Adds the requests, and steps until nothing is left to do; whatever comes of it."""
        for request in requests:
            self.add(request)
        while self.has_work:
            yield from self.step()

    def add(self, request: Request, joined: float | None = None) -> None:
        """Takes part from the next step on, or waits for a slot. ValueError if it is in already.

        ``joined`` is when it came, by the engine's clock, if that was before now.
        """
        if request.id in self._entries:
            raise ValueError(f"Request {request.id!r} is in the engine already.")
        now = self.clock()
        deadline = None if request.deadline_s is None else now + request.deadline_s
        name = request.model or self.models.default
        entry = Entry(request, name, deadline, now if joined is None else joined)
        self._entries[request.id] = entry
        self._arrivals.append(entry)

    def abort(self, request_id: str) -> bool:
        """Leaves at once, with no output; whether it was here."""
        if request_id not in self._entries:
            return False
        self._leave(request_id)
        self._stats = replace(self._stats, aborted=self._stats.aborted + 1)
        return True

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """One denoising step of one batch, and what came of it."""
        start = self.clock()
        batch = self._schedule()
        undecoded, idle = len(self._undecoded), not self._foreground
        if batch and isinstance(batch[0].model, WholeCall):
            self._call(batch[0].model, batch)
        else:
            running = [entry.running for entry in batch if entry.running is not None]
            self._update(self._denoise(running))
        self._collect(undecoded, idle, wait=not batch)
        self._load(wait=not batch)
        if not self.first_of_kind:
            self.longest_step = max(self.longest_step, self.clock() - start)
        self.expected_step, self.first_of_kind = 0.0, False
        outputs, self._outputs = self._outputs, []
        return outputs

    @torch.inference_mode()
    def tune(self) -> bool:
        """A slice of what makes later steps faster, for when there is no work.

        It may take as long as a compiler does. False if none is left.
        """
        more = self._warm_up.tune(self.models.loaded)
        self._bound_memory()
        return more

    def take_steps(self) -> list[Step]:
        """The steps made since the last call; of very many the latest. From any thread."""
        steps = []
        with suppress(IndexError):
            while True:
                steps.append(self._steps.popleft())
        return steps

    def reset_stats(self) -> None:
        self._stats = EngineStats()
        self._steps.clear()

    def close(self) -> None:
        """Ends the reading of models; what is still in comes to nothing."""
        self.models.close()

    def _schedule(self) -> list[Entry]:
        """Who takes this step; those new to it are encoded and given their first latents."""
        self._admit()
        self._expire()
        foreground = bool(self._foreground)
        if foreground:
            self._make_way()
        ids = self._batcher.next_batch(background=not foreground)
        chosen = [self._entries[request_id] for request_id in ids]
        self._expect(chosen)
        batch = []
        for entry in chosen:
            request_id = entry.request.id
            with self._isolated(request_id):
                try:
                    self._begin(entry)
                    batch.append(entry)
                except torch.OutOfMemoryError:
                    release_memory()
                    if self._batcher.active <= 1:
                        raise
                    self._postpone(entry)
        return batch

    def _expect(self, chosen: Sequence[Entry]) -> None:
        """Say what the step of these takes, for who must tell a slow step from one that hangs."""
        if not chosen:  # it waits for pictures that are decoded
            self.expected_step = sum(map(self._decode_seconds, self._entries.values()))
            return
        params, cost = chosen[0].request.params, self.costs[chosen[0].model_name]
        pixels = params.width * params.height
        if isinstance(chosen[0].model, WholeCall):  # which turn encodes and decodes is its secret
            seconds = sum(cost.predict(entry.request.params) for entry in chosen)
            self.expected_step, self.first_of_kind = seconds, not cost.knows_step(pixels)
            return
        rows = sum(entry.rows or cost.rows(entry.request.params) for entry in chosen)
        begin = [entry for entry in chosen if entry.running is None]
        end = [entry for entry in chosen if entry.ends_with_next]
        self.expected_step = (
            cost.seconds_per_step(pixels, rows)
            + sum(cost.encode_seconds(entry.request.params) for entry in begin)
            + sum(map(self._decode_seconds, end))
        )
        beside = isinstance(chosen[0].model, Family) and chosen[0].model.decodes_beside
        undecoded = bool(end) and not beside and not cost.knows_decoding(pixels)
        loads = any(map(self._lacks_loras, begin))
        self.first_of_kind = undecoded or loads or not cost.knows_step(pixels)

    @staticmethod
    def _lacks_loras(entry: Entry) -> bool:
        known = entry.model.loras.names if isinstance(entry.model, Family) else ()
        return not entry.request.lora_files.keys() <= set(known)

    def _decode_seconds(self, entry: Entry) -> float:
        params = entry.request.params
        return self.costs[entry.model_name].decode_seconds(params.width * params.height)

    def _call(self, model: WholeCall, batch: list[Entry]) -> None:
        """A step of the call that runs, which is that of whoever is in it; or one begins."""
        start = self.clock()
        try:
            turns = model.advance([entry.caller for entry in batch if entry.caller is not None])
        except torch.OutOfMemoryError:
            release_memory()
            self._batcher.out_of_memory(len(batch))
            return
        now = self.clock()
        self._observe([self._entries[turn.caller.id] for turn in turns], now - start)
        for turn in turns:
            caller = turn.caller
            with self._isolated(caller.id):
                if turn.error is not None:
                    raise turn.error
                if turn.picture is not None:
                    self._finish(self._entries[caller.id], turn.picture)
                elif turn.progressed:
                    self._entries[caller.id].denoised = now
                    steps = caller.params.num_inference_steps
                    self._outputs.append(Progress(caller.id, caller.steps_done, steps))

    def _denoise(self, batch: list[Running]) -> list[tuple[Running, Tensor]]:
        """The model's prediction for each; a pass that raises is halved until the guilty is alone.

        Out of memory goes the same way, and the smaller batch is remembered.
        """
        predictions: list[tuple[Running, Tensor]] = []
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
            self._batcher.out_of_memory(len(batch))
        except Exception:  # comes again from the guilty one, when it is alone
            logger.warning("A pass of %d raised; it is halved.", len(batch), exc_info=True)
        middle = len(batch) // 2
        return self._denoise(batch[:middle]) + self._denoise(batch[middle:])

    def _update(self, predictions: list[tuple[Running, Tensor]]) -> None:
        """Each request's own noise scheduler takes its step; who is done goes to be decoded."""
        for running, prediction in predictions:
            with self._isolated(running.request.id):
                self._advance(running, prediction)
                if not running.trajectory.finished:
                    continue
                running.entry.denoised = self.clock()
                self._batcher.remove(running.request.id)
                if running.entry.background:  # who came meanwhile need not wait for both
                    self._undecoded.append(running)
                else:
                    self._decode(running)

    def _collect(self, undecoded: int, idle: bool, wait: bool) -> None:
        """Pictures that were decoded beside the steps, and those that waited to be decoded.

        In the background they wait for a step that was ``idle``: nobody else was in.
        """
        for _ in range(undecoded):
            running = self._undecoded.popleft()
            if running.entry.background and not idle:
                self._undecoded.append(running)
                continue
            with self._isolated(running.request.id):
                self._decode(running)
        if self._decoder is None:
            return
        for entry, picture in self._decoder.wait() if wait else self._decoder.ready():
            if self._entries.get(entry.request.id) is entry:  # else it was aborted, or is late
                with self._isolated(entry.request.id):
                    self._finish(entry, picture)

    def _load(self, wait: bool) -> None:
        """A slice of the model that loads."""
        if self.models.loading:
            self.first_of_kind = True
        if wait and self._arrivals:
            self.models.wait(_READING_SECONDS)
        self._warm_up.forget_others(self.models.loaded)
        self.models.advance(self._make_ready)

    def _make_ready(self, name: str, model: Model) -> Iterator[None]:
        """A model that has just been placed."""
        yield from self._warm_up.run(name, model)
        self._bound_memory()

    def _bound_memory(self) -> None:
        """Of what is free on the device most is for steps, the rest for what is between them."""
        free = self._warm_up.free_memory
        self._step_memory = None if free is None else int(free * _STEP_SHARE)
        self._batcher.memory = None if free is None else free - int(free * _STEP_SHARE)

    def _make_way(self) -> None:
        """Background requests leave that hold what others need."""
        waiting = [*self._arrivals, *(running.entry for running in self._undecoded)]
        waiting = [entry for entry in waiting if not entry.background]
        short = any(entry.short_at == self._departures for entry in waiting)
        wanted = bool(waiting) and (short or self.models.full)
        for id_, entry in list(self._entries.items()):
            holds = entry.model is not None and (wanted or isinstance(entry.model, WholeCall))
            if entry.background and holds:
                self._outputs.append(Displaced(id_))
                self._leave(id_)

    def _admit(self) -> None:
        """To the batcher goes whose model is there; the others keep their order.

        Those in the background come last, and no model makes room for theirs.
        """
        self._arrivals = deque(sorted(self._arrivals, key=lambda entry: entry.background))
        waiting: list[Entry] = []
        while self._arrivals:
            entry = self._arrivals.popleft()
            with self._isolated(entry.request.id):
                if entry.model is None:
                    entry.model = self.models.acquire(entry.model_name, not entry.background)
                    if entry.model is None or entry.loaded is not None:
                        entry.loaded = self.clock()  # for now, and again once it is there
                if entry.model is None or self._short_of_memory(entry):
                    waiting.append(entry)
                else:
                    self._enter(entry, entry.model)
            if self.models.full:
                break  # who came later waits as well: else a model in use would never leave
        self._arrivals.extendleft(reversed(waiting))

    def _postpone(self, entry: Entry) -> None:
        """There was no memory for its first latents: it waits until another has left."""
        self._batcher.remove(entry.request.id)
        entry.short_at = self._departures
        self._arrivals.appendleft(entry)

    def _short_of_memory(self, entry: Entry) -> bool:
        return entry.short_at == self._departures and self._batcher.active > 0

    def _enter(self, entry: Entry, model: Model) -> None:
        params, cost = entry.request.params, self.costs[entry.model_name]
        most = self._most_rows(cost)
        measured = entry.model_name in self._warm_up.measured
        lane = model.batch_key(params) if isinstance(model, Family) else None
        self._batcher.add(
            entry.request.id,
            (entry.model_name, lane),
            seconds=cost.predict(params),
            deadline=entry.deadline,
            size=cost.held_bytes(params),
            fill=cost.fill(params, most, self._step_memory),
            saturation=cost.saturation_share(params, most) if measured else 0.0,
            background=entry.background,
        )

    def _expire(self) -> None:
        now = self.clock()
        for id_, entry in list(self._entries.items()):
            if entry.deadline is not None and entry.deadline <= now:
                self._outputs.append(Expired(id_))
                self._leave(id_)
                self._stats = replace(self._stats, expired=self._stats.expired + 1)

    def _begin(self, entry: Entry) -> None:
        model, params = entry.model, entry.request.params
        if entry.has_begun:
            return
        entry.begun = entry.encoded = self.clock()
        cost = self.costs[entry.model_name]
        if isinstance(model, WholeCall):
            entry.caller = model.admit(entry.request.id, params)
            entry.rows = cost.rows(params)
        elif model is not None:
            in_use = {name for each in self._entries.values() for name in each.request.lora_files}
            model.loras.take(entry.request.lora_files, in_use)
            conditioning = model.encode(params)
            entry.encoded = self.clock()
            cost.observe_encode(conditioning.rows, entry.encoded - entry.begun)
            if params.guidance_scale > 1:
                cost.guided_rows = conditioning.rows
            trajectory = model.prepare(params, conditioning)
            entry.running, entry.rows = Running(entry, model, trajectory), conditioning.rows
            pixels = params.width * params.height
            cost.observe_held_bytes(pixels, conditioning.rows, trajectory.nbytes)

    def _predict(self, batch: list[Running]) -> list[tuple[Running, Tensor]]:
        start = self.clock()
        predictions = batch[0].family.denoise([running.trajectory for running in batch])
        # The step's one wait for the device; it ends the forward pass for the clock as well.
        finite = torch.stack([each.isfinite().all() for each in predictions]).tolist()
        self._observe([running.entry for running in batch], self.clock() - start)
        sound = []
        for running, prediction, is_finite in zip(batch, predictions, finite, strict=True):
            if is_finite:
                sound.append((running, prediction))
            else:
                self._fail(running.request.id, RequestError(_NOT_FINITE))
        return sound

    def _observe(self, entries: Sequence[Entry], seconds: float) -> None:
        """They took a step together, all of one model and size."""
        if not entries:
            return
        cost, params = self.costs[entries[0].model_name], entries[0].request.params
        rows = sum(entry.rows for entry in entries)
        before = cost.saturation_share(params, self._most_rows(cost))
        cost.observe(params.width * params.height, rows, seconds)
        if cost.saturation_share(params, self._most_rows(cost)) != before:
            self._share_anew(entries[0].model_name, params.width, params.height)
        size = params.width, params.height
        self._steps.append(Step(entries[0].model_name, *size, len(entries), seconds))
        for entry in entries:
            entry.passes += 1
            entry.companions += len(entries)
            remaining = cost.remaining(entry.request.params, entry.steps_left)
            self._batcher.update(entry.request.id, remaining)
        self._stats = replace(
            self._stats,
            steps=self._stats.steps + 1,
            request_steps=self._stats.request_steps + len(entries),
            denoise_seconds=self._stats.denoise_seconds + seconds,
        )

    def _share_anew(self, model: str, width: int, height: int) -> None:
        """Where the device saturates at that size is known better now."""
        if model not in self._warm_up.measured:
            return
        cost = self.costs[model]
        for id_, entry in self._entries.items():
            params = entry.request.params
            if (entry.model_name, params.width, params.height) == (model, width, height) and (
                id_ in self._batcher
            ):
                share = cost.saturation_share(params, self._most_rows(cost))
                self._batcher.saturates(id_, share)

    def _most_rows(self, cost: CostModel) -> int:
        return self.max_batch * cost.guided_rows

    def _advance(self, running: Running, prediction: Tensor) -> None:
        request, trajectory = running.request, running.trajectory
        before = trajectory.steps_done
        wanted = _preview_is_due(request, trajectory)
        preview = running.family.preview(trajectory, prediction) if wanted else None
        trajectory.advance(prediction)
        if trajectory.steps_done > before:
            self._outputs.append(
                Progress(request.id, trajectory.steps_done, trajectory.steps, preview)
            )

    def _decode(self, running: Running) -> None:
        """Without memory it waits until another has left."""
        entry, latents = running.entry, running.trajectory.latents
        if self._short_of_memory(entry):
            self._undecoded.append(running)
            return
        start = self.clock()
        try:
            if running.family.decodes_beside:
                self._decoder = self._decoder or Decoder()
                self._decoder.submit(entry, running.family.decode, latents)
                return
            picture = running.family.decode(latents).cpu()
        except torch.OutOfMemoryError:
            release_memory()
            entry.short_at = self._departures
            if not self._batcher.active:
                raise
            self._undecoded.append(running)
            return
        params = entry.request.params
        seconds = self.clock() - start
        self.costs[entry.model_name].observe_decode(params.width * params.height, seconds)
        self._finish(entry, picture)

    def _finish(self, entry: Entry, picture: Tensor) -> None:
        if not picture.isfinite().all():
            raise RequestError(_NOT_FINITE)
        params, (height, width) = entry.request.params, picture.shape[-2:]
        if (width, height) != (params.width, params.height):
            raise RequestError(
                f"The model drew {width}x{height} pixels for {params.width}x{params.height}; ask"
                " for a size that it draws."
            )
        timing = entry.timing(decoded=self.clock())
        self._outputs.append(Result(entry.request.id, _to_bytes(picture), timing, entry.reading))
        self._leave(entry.request.id)
        self._stats = replace(self._stats, finished=self._stats.finished + 1)

    @property
    def _foreground(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if not entry.background]

    @property
    def _decoding(self) -> int:
        """Those of the foreground that need no more steps."""
        drawn = (entry for entry in self._foreground if entry.request.id not in self._batcher)
        return sum(entry not in self._arrivals for entry in drawn)

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
        reason, unexpected = str(error), None
        if isinstance(error, torch.OutOfMemoryError):
            logger.warning("Request %s found no memory: %s", request_id, error)
            reason = _NO_MEMORY
        elif not isinstance(error, DiffusionError):
            reason, unexpected = f"{type(error).__name__}: {error}", error
        unsafe = isinstance(error, UnsafePictureError)
        self._outputs.append(Failure(request_id, reason, unsafe, unexpected))
        self._leave(request_id)
        self._stats = replace(self._stats, failed=self._stats.failed + 1)

    def _leave(self, request_id: str) -> None:
        entry = self._entries.pop(request_id)
        self._departures += 1
        self._batcher.remove(request_id)
        self._undecoded = deque(each for each in self._undecoded if each.entry is not entry)
        if entry in self._arrivals:
            self._arrivals.remove(entry)
        if entry.model is not None:
            self.models.release(entry.model_name)
        if entry.caller is not None:
            entry.caller.leave()


_NO_MEMORY = "The device has too little memory for this picture; ask for a smaller one."
_NOT_FINITE = "The model's output was not a number; try other parameters or another dtype."


def _preview_is_due(request: Request, trajectory: Trajectory) -> bool:
    """Whether the step about to be made is one to show; the last is shown by the picture."""
    step = trajectory.steps_after_next
    due = request.preview_every > 0 and step > trajectory.steps_done
    return due and step % request.preview_every == 0 and step < trajectory.steps


def _to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(1, 3, height, width) from 0 to 1 to (height, width, 3), as diffusers rounds."""
    image: NDArray[np.uint8] = picture[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(image)
