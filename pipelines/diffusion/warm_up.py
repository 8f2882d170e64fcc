"""Before the first request: what is lazy is done, and what a step costs is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import WarmUpError
from pipelines.diffusion.families.latent import LatentFamily
from pipelines.diffusion.plain_request import plain_params
from pipelines.diffusion.request import Failure, Request, SamplingParams
from pipelines.diffusion.speed.accelerate import warm_buckets
from pipelines.diffusion.speed.device_memory import DeviceMemory
from pipelines.diffusion.trajectory import Trajectory

_ROUNDS = 3
_LONGEST_STEP = 1.0  # seconds: after such a step no larger batch is measured


def warm_up(engine: DiffusionEngine, memory: DeviceMemory | None = None) -> None:
    """Draws a first picture with the default model, and measures steps of 1, 2, 4… requests.

    From them follow the seconds that requests are predicted to take, how many requests a step is
    worth, and on CUDA for how many there is memory. Raises WarmUpError if the model cannot draw,
    and whatever its loading raised.
    """
    family = engine.models.load(engine.models.default)
    cost = engine.costs[engine.models.default]
    memory = memory or DeviceMemory(family.device)
    params = plain_params(family.description, guidance_scale=5.0)
    with torch.inference_mode():
        cost.guided_rows = family.encode(params).rows
    warm_buckets(family, rows=engine.max_batch * cost.guided_rows)
    _draw_first(engine, params)
    if isinstance(family, LatentFamily):  # others draw by whole calls, not by steps
        cost.clear()  # the first step is slow in ways that no other will be
        _measure(engine, family, params, memory)
        engine.measured.add(engine.models.default)
    engine.bound_memory(memory.free())
    engine.reset_stats()


def _draw_first(engine: DiffusionEngine, params: SamplingParams) -> None:
    engine.add(Request("warm-up", params, preview_every=1))
    outputs = engine.step()
    while engine.has_work:
        outputs += engine.step()
    last = outputs[-1]
    if isinstance(last, Failure) and not last.unsafe:  # what is refused has been drawn
        raise WarmUpError(f"The model drew no first picture: {last.reason}")


@torch.inference_mode()
def _measure(
    engine: DiffusionEngine, family: LatentFamily, params: SamplingParams, memory: DeviceMemory
) -> None:
    """In rounds, so that what else the machine does falls on batches of all sizes alike."""
    cost, pixels = engine.costs[engine.models.default], params.width * params.height
    trajectories = [family.prepare(params, family.encode(params)) for _ in range(engine.max_batch)]
    for _ in range(_ROUNDS):
        pictures = 1
        while pictures <= engine.max_batch:
            rows = pictures * cost.guided_rows
            start = engine.clock()
            peak = memory.peak_of(lambda: _step(family, trajectories[:pictures]))  # noqa: B023
            cost.observe(pixels, rows, engine.clock() - start)
            if peak is not None:
                cost.observe_step_bytes(pixels, rows, peak)
            if cost.seconds_per_step(pixels, rows) > _LONGEST_STEP:
                break
            pictures *= 2


def _step(family: LatentFamily, trajectories: Sequence[Trajectory]) -> None:
    """The pass alone, to its end on the device; the latents stay as they are."""
    torch.stack([each.isfinite().all() for each in family.denoise(trajectories)]).tolist()
