"""Before a model's first request: what is lazy is done, and what a step costs is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median

import torch

from pipelines.diffusion.batching.cost import CostModel
from pipelines.diffusion.errors import RequestError, UnsafePictureError, WarmUpError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.latent import LatentFamily
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.request import SamplingParams
from pipelines.diffusion.speed.device_memory import DeviceMemory

Clock = Callable[[], float]

_ROUNDS = 3
_WORTH = 1.1
_LONGEST_STEP = 1.0  # seconds: after such a step no larger batch is measured


def warm_up(
    family: Family, cost: CostModel, max_batch: int, memory: DeviceMemory, clock: Clock
) -> Iterator[None]:
    """Draws a first picture, and measures steps of 1, 2, 4… requests into ``cost``.

    Between two slices other models may make their steps. From the measurements follow the seconds
    that requests are predicted to take, how many requests a step is worth, and on CUDA for how
    many there is memory. Raises WarmUpError if the model cannot draw.
    """
    params = plain_params(family.description, guidance_scale=5.0)
    try:
        yield from _draw_first(family, cost, params, clock)
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise
    except UnsafePictureError:
        pass  # it was drawn all the same
    except Exception as error:
        raise WarmUpError(f"The model drew no first picture: {error}") from error
    if isinstance(family, LatentFamily):  # others draw by whole calls, not by steps
        yield from measure(family, cost, max_batch, memory, clock)


def measure(
    family: LatentFamily, cost: CostModel, max_batch: int, memory: DeviceMemory, clock: Clock
) -> Iterator[None]:
    """A step a slice; in rounds, so that what else the machine does falls on all sizes alike."""
    cost.clear()  # the first step is slow in ways that no other will be
    params = plain_params(family.description, guidance_scale=5.0)
    pixels = params.width * params.height
    trajectories = [family.prepare(params, family.encode(params)) for _ in range(max_batch)]
    for _ in range(_ROUNDS):
        pictures = 1
        while pictures <= max_batch:
            batch, rows = trajectories[:pictures], pictures * cost.guided_rows
            start = clock()
            # To its end on the device; the latents stay as they are.
            peak = memory.peak_of(lambda: _all_finite(family.denoise(batch)))  # noqa: B023
            cost.observe(pixels, rows, clock() - start)
            if peak is not None:
                cost.observe_step_bytes(pixels, rows, peak)
            yield
            if cost.seconds_per_step(pixels, rows) > _LONGEST_STEP:
                break
            pictures *= 2


def choose_threads(family: LatentFamily, max_batch: int, most: int, clock: Clock) -> int:
    """How many CPU threads to compute with: from 1 to ``most``, as measured now.

    Of steps of one request and of ``max_batch``, whatever else the machine does meanwhile. Twice
    the threads must be worth a tenth: a core that is not needed is the rest of the service's.
    """
    params = plain_params(family.description, guidance_scale=5.0)
    trajectories = [family.prepare(params, family.encode(params)) for _ in range(max_batch)]
    choices = [1 << i for i in range(most.bit_length()) if 1 << i < most] + [most]
    seconds: dict[tuple[int, int], list[float]] = {}
    for threads in [*choices, *reversed(choices)] * _ROUNDS:
        torch.set_num_threads(threads)
        for size in (1, max_batch):
            start = clock()
            _all_finite(family.denoise(trajectories[:size]))
            seconds.setdefault((threads, size), []).append(clock() - start)
    chosen = 1
    for threads in choices:
        gain = math.prod(
            median(seconds[chosen, size]) / median(seconds[threads, size])
            for size in (1, max_batch)
        )
        if gain > _WORTH**2:
            chosen = threads
    torch.set_num_threads(chosen)
    return chosen


def _draw_first(
    family: Family, cost: CostModel, params: SamplingParams, clock: Clock
) -> Iterator[None]:
    pixels = params.width * params.height
    start = clock()
    conditioning = family.encode(params)
    cost.guided_rows = rows = conditioning.rows
    cost.observe_encode(rows, clock() - start)
    trajectory = family.prepare(params, conditioning)
    cost.observe_held_bytes(pixels, rows, trajectory.nbytes)
    yield
    try:
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
    finally:
        trajectory.release()
    if not _all_finite([picture]):
        raise RequestError("its colours are not numbers; try another dtype.")


def _all_finite(tensors: list[torch.Tensor]) -> bool:
    """Waits for the device."""
    return all(torch.stack([each.isfinite().all() for each in tensors]).tolist())
