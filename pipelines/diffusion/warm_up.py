"""Before a model's first request: what is lazy is done, and what a step costs is known."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from statistics import median

import torch
from torch import Tensor

from pipelines.diffusion.batching.cost import CostModel
from pipelines.diffusion.errors import RequestError, UnsafePictureError, WarmUpError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.model import Model
from pipelines.diffusion.families.whole_call import WholeCall
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.speed.accelerate import warm_buckets
from pipelines.diffusion.speed.device_memory import DeviceMemory

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

_ROUNDS = 3
_WORTH = 1.25
_LONGEST_STEP = 1.0  # seconds: after such a step no larger batch is measured


class WarmUp:
    """Makes models ready, a slice at a time: between two of them other models make their steps."""

    def __init__(
        self, costs: Mapping[str, CostModel], max_batch: int, clock: Clock, threads: int | None
    ) -> None:
        """What is measured goes into ``costs``, by model. ``threads`` as in ``DiffusionEngine``."""
        self.memory: DeviceMemory | None = None  # that of each model's device by default
        self.free_memory: int | None = None
        """Bytes of the device beside all that is loaded, where it is known."""
        self.measured: set[str] = set()
        """Models of which it is known where they saturate the device: their steps end there.

        Steps of random sizes, on a machine that does other things, say too little about that.
        """
        self._costs = costs
        self._max_batch = max_batch
        self._clock = clock
        self._threads = threads
        self._tuning: dict[str, Iterator[None]] = {}

    def use_threads(self) -> None:
        """As many of the CPU as were asked for; all until it is measured how many pay."""
        if self._threads is not None:
            torch.set_num_threads(self._threads or _cores())

    def run(self, name: str, model: Model) -> Iterator[None]:
        """Draws a first picture, and measures steps of 1, 2, 4… requests.

        From the measurements follow the seconds that requests are predicted to take, how many
        requests a step is worth, and on CUDA for how many there is memory. Raises WarmUpError if
        the model cannot draw.
        """
        cost, memory = self._costs[name], self.memory or DeviceMemory(model.device)
        try:
            yield from _draw_first(model, cost, self._clock)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise
        except UnsafePictureError:
            pass  # it was drawn all the same
        except Exception as error:
            raise WarmUpError(f"The model drew no first picture: {error}") from error
        if isinstance(model, Family):  # others draw by whole calls, not by steps
            yield from self._measure(name, model, cost, memory)
        self.free_memory = memory.free()

    def _measure(
        self, name: str, family: Family, cost: CostModel, memory: DeviceMemory
    ) -> Iterator[None]:
        if self._threads == 0 and family.device.type == "cpu":
            self._threads = choose_threads(family, self._max_batch, _cores(), self._clock)
            logger.info("Computing with %d CPU threads.", self._threads)
        yield from measure(family, cost, self._max_batch, memory, self._clock)
        self.measured.add(name)
        self._tuning[name] = self._tuned(family, cost, memory)

    def tune(self, loaded: Collection[str]) -> bool:
        """A slice of what makes the steps of a model of ``loaded`` faster; False if none is left.

        It may take as long as a compiler does.
        """
        self.forget_others(loaded)
        for name, slices in list(self._tuning.items()):
            try:
                next(slices)
            except StopIteration:
                del self._tuning[name]
            else:
                return True
        return False

    def forget_others(self, loaded: Collection[str]) -> None:
        """Models that have left, whose memory is to be free."""
        for name in self._tuning.keys() - set(loaded):
            del self._tuning[name]

    def _tuned(self, family: Family, cost: CostModel, memory: DeviceMemory) -> Iterator[None]:
        """Every batch bucket is compiled or captured, and steps are measured anew."""
        compiled = False
        for _ in warm_buckets(family, rows=self._max_batch * cost.guided_rows):
            compiled = True
            yield
        if compiled:
            yield from measure(family, cost, self._max_batch, memory, self._clock)
            self.free_memory = memory.free()


def measure(
    family: Family, cost: CostModel, max_batch: int, memory: DeviceMemory, clock: Clock
) -> Iterator[None]:
    """A step a slice; in rounds, so that what else the machine does falls on all sizes alike.

    Of each size the median counts, as one measurement: later ones soon outweigh it. (The shortest
    would flatter small steps, which end before anybody else has the core.)
    """
    params = plain_params(family.description, guidance_scale=5.0)
    pixels = params.width * params.height
    trajectories = [family.prepare(params, family.encode(params)) for _ in range(max_batch)]
    steps: dict[int, list[float]] = {}
    for _ in range(_ROUNDS):
        pictures = 1
        while pictures <= max_batch:
            batch, rows = trajectories[:pictures], pictures * cost.guided_rows
            start = clock()
            # To its end on the device; the latents stay as they are.
            peak = memory.peak_of(lambda: _all_finite(family.denoise(batch)))  # noqa: B023
            steps.setdefault(rows, []).append(clock() - start)
            if peak is not None:
                cost.observe_step_bytes(pixels, rows, peak)
            yield
            if median(steps[rows]) > _LONGEST_STEP:
                break
            pictures *= 2
    cost.clear()  # the steps of the first picture were slow in ways that no other will be
    for rows, seconds in steps.items():
        cost.observe(pixels, rows, median(seconds))


def choose_threads(family: Family, max_batch: int, most: int, clock: Clock) -> int:
    """How many CPU threads to compute with: from 1 to ``most``, as measured now.

    Of steps of one request and of ``max_batch``, or of as many as a second is enough for, whatever
    else the machine does meanwhile. Twice the threads must be worth a quarter: all of them wait for
    the one whose core somebody else needs, and the second hardware thread of a core is worth less
    than that.
    """
    params = plain_params(family.description, guidance_scale=5.0)
    trajectories = [family.prepare(params, family.encode(params)) for _ in range(max_batch)]
    choices = [1 << i for i in range(most.bit_length()) if 1 << i < most] + [most]
    torch.set_num_threads(most)
    largest = 1
    while largest < max_batch:
        start = clock()
        _all_finite(family.denoise(trajectories[:largest]))
        if clock() - start > _LONGEST_STEP:
            break
        largest = min(2 * largest, max_batch)
    seconds: dict[tuple[int, int], list[float]] = {}
    for threads in [*choices, *reversed(choices)] * _ROUNDS:
        torch.set_num_threads(threads)
        for size in (1, largest):
            start = clock()
            _all_finite(family.denoise(trajectories[:size]))
            seconds.setdefault((threads, size), []).append(clock() - start)
    chosen = 1
    for threads in choices:
        gain = math.prod(
            median(seconds[chosen, size]) / median(seconds[threads, size]) for size in (1, largest)
        )
        if gain > _WORTH**2:
            chosen = threads
    torch.set_num_threads(chosen)
    return chosen


def _draw_first(model: Model, cost: CostModel, clock: Clock) -> Iterator[None]:
    params = plain_params(model.description, guidance_scale=5.0)
    if isinstance(model, WholeCall):
        picture = yield from _call_first(model, params, cost, clock)
    else:
        picture = yield from _step_first(model, params, cost, clock)
    if not _all_finite([picture]):
        raise RequestError("its colours are not numbers; try another dtype.")


def _call_first(
    model: WholeCall, params: SamplingParams, cost: CostModel, clock: Clock
) -> Generator[None, None, Tensor]:
    pixels, caller = params.width * params.height, model.admit("warm-up", params)
    try:
        while True:
            start = clock()
            (turn,) = model.advance([caller])
            cost.observe(pixels, cost.rows(params), clock() - start)
            if turn.error is not None:
                raise turn.error
            if turn.picture is not None:
                return turn.picture
            yield
    finally:
        caller.leave()


def _step_first(
    family: Family, params: SamplingParams, cost: CostModel, clock: Clock
) -> Generator[None, None, Tensor]:
    pixels = params.width * params.height
    start = clock()
    conditioning = family.encode(params)
    cost.guided_rows = rows = conditioning.rows
    cost.observe_encode(rows, clock() - start)
    trajectory = family.prepare(params, conditioning)
    cost.observe_held_bytes(pixels, rows, trajectory.nbytes)
    yield
    while not trajectory.finished:
        start = clock()
        (prediction,) = family.denoise([trajectory])
        _all_finite([prediction])
        cost.observe(pixels, rows, clock() - start)
        family.preview(trajectory, prediction)
        trajectory.advance(prediction)
        yield
    start = clock()
    picture = family.decode(trajectory.latents).cpu()
    cost.observe_decode(pixels, clock() - start)
    return picture


def _cores() -> int:
    return os.cpu_count() or 1


def _all_finite(tensors: list[Tensor]) -> bool:
    """Waits for the device."""
    return all(torch.stack([each.isfinite().all() for each in tensors]).tolist())
