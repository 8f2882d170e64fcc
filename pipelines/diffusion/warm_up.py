"""Before the first request: what is lazy is done, and what a step costs is known."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.diffusion.catalog import ModelDescription
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.errors import WarmUpError
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.request import Failure, Request, SamplingParams
from pipelines.diffusion.speed.accelerate import warm_buckets
from pipelines.diffusion.speed.device_memory import DeviceMemory

_STEPS = 3  # measured of each batch size
_LONGEST_STEP = 1.0  # seconds: after such a step no larger batch is measured


def warm_up(engine: DiffusionEngine, memory: DeviceMemory | None = None) -> None:
    """Draws a first picture with the default model, and measures steps of 1, 2, 4… requests.

    From them follow the seconds that requests are predicted to take, how many requests a step is
    worth, and on CUDA for how many there is memory. Raises WarmUpError if the model cannot draw,
    and whatever its loading raised.
    """
    name = engine.models.default
    family = engine.models.load(name)
    memory = memory or DeviceMemory(family.device)
    params = _plain(family.description)
    with torch.inference_mode():
        engine.costs[name].guided_rows = family.encode(params).rows
    warm_buckets(family, rows=engine.max_batch * engine.costs[name].guided_rows)
    _draw_first(engine, params)
    engine.costs[name].clear()  # the first step is slow in ways that no other will be
    _measure(engine, family, params, memory)
    engine.bound_memory(memory.free())
    engine.reset_stats()


def _draw_first(engine: DiffusionEngine, params: SamplingParams) -> None:
    engine.add(Request("warm-up", params, preview_every=1))
    outputs = engine.step()
    while engine.has_work:
        outputs += engine.step()
    if isinstance(outputs[-1], Failure):
        raise WarmUpError(f"The model drew no first picture: {outputs[-1].reason}")


def _measure(
    engine: DiffusionEngine, family: Family, params: SamplingParams, memory: DeviceMemory
) -> None:
    cost, pixels = engine.costs[engine.models.default], params.width * params.height
    pictures = 1
    while pictures <= engine.max_batch:
        rows = pictures * cost.guided_rows
        ids = [f"warm-up {i}" for i in range(pictures)]
        for id_ in ids:
            engine.add(Request(id_, params))
        for _ in range(_STEPS):
            peak = memory.peak_of(engine.step)
            if peak is not None:
                cost.observe_step_bytes(pixels, rows, peak)
        for id_ in ids:
            engine.abort(id_)
        if cost.seconds_per_step(pixels, rows) > _LONGEST_STEP:
            break
        pictures *= 2


def _plain(model: ModelDescription) -> SamplingParams:
    """More steps than are measured, so that none of them decodes."""
    width, height = model.default_width, model.default_height
    return SamplingParams(
        prompt="sfumato",
        width=width,
        height=height,
        num_inference_steps=_STEPS + 1,
        guidance_scale=5.0,
        seed=0,
        image=np.zeros((height, width, 3), np.uint8) if model.needs_image else None,
        mask=np.full((height, width), 255, np.uint8) if model.needs_mask else None,
        strength=1.0,
    )
