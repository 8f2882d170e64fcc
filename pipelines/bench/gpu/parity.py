"""How far half precision is from full, and whether sharing a batch adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.bench.architectures.table import build_pipeline
from pipelines.bench.errors import BenchError
from pipelines.bench.plan import BATCH, GUIDANCE_SCALES, Plan
from pipelines.bench.subject import family_of
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import choose_device, choose_dtype
from pipelines.diffusion.request import Failure, Request, Result, SamplingParams
from pipelines.diffusion.speed.accelerate import accelerate

_STEPS = 8
_TARGET = "target"


@dataclass(frozen=True, slots=True)
class Parity:
    """Root mean squares of the differences of one picture's colours, over its spread.

    Of what diffusers' own call draws in half precision, the engine alone, and the engine among
    neighbours, each from what diffusers draws of the same weights in float32; and of the last two
    from each other.
    """

    diffusers: float
    alone: float
    batch: float
    batch_from_alone: float
    neighbours: int


def measure_parity(plan: Plan) -> Parity:
    """Raises BenchError or AccelerationError."""
    torch.backends.cudnn.allow_tf32 = False  # the reference is to be float32
    device = choose_device(plan.device)
    dtype = choose_dtype(plan.dtype, device)
    assert plan.architecture is not None  # noqa: S101 - that of the part
    pipeline = build_pipeline(plan.architecture, device, dtype, narrow=plan.narrow)
    pipeline.set_progress_bar_config(disable=True)
    target = _params(plan, _STEPS, 5.0, seed=7)
    exact = _call(pipeline.to(torch.float32), target)
    called = _call(pipeline.to(dtype), target)  # the very weights: they were of this dtype
    family = family_of(pipeline)
    accelerate(family, plan.acceleration)
    schedulers = family.description.schedulers
    neighbours = [
        _params(
            plan,
            steps=3 + 2 * i,
            guidance_scale=GUIDANCE_SCALES[i % len(GUIDANCE_SCALES)],
            seed=100 + i,
            scheduler=schedulers[i % len(schedulers)],
        )
        for i in range(BATCH - 1)
    ]
    alone = _draw(family, target, [])
    batch = _draw(family, target, neighbours)
    spread = exact.std()

    def error(ours: Tensor, theirs: Tensor) -> float:
        return float((ours - theirs).square().mean().sqrt() / spread)

    return Parity(
        diffusers=error(called, exact),
        alone=error(alone, exact),
        batch=error(batch, exact),
        batch_from_alone=error(batch, alone),
        neighbours=len(neighbours),
    )


def _params(
    plan: Plan, steps: int, guidance_scale: float, seed: int, **more: Any
) -> SamplingParams:
    assert plan.size is not None  # noqa: S101 - that of the part
    return SamplingParams(
        prompt="a red fox",
        width=plan.size,
        height=plan.size,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        **more,
    )


def _call(pipeline: Any, params: SamplingParams) -> Tensor:
    """(3, height, width) from 0 to 1, by diffusers' own call."""
    picture: Tensor = pipeline(
        prompt=params.prompt,
        width=params.width,
        height=params.height,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        output_type="pt",
    ).images[0]
    return picture.float().cpu()


def _draw(family: Family, target: SamplingParams, neighbours: Sequence[SamplingParams]) -> Tensor:
    """The same by the engine; half of the neighbours have begun, and half come with the target."""
    pictures: list[Tensor] = []
    drawn: list[str] = []
    decode = family.decode

    def keep(latents: Tensor) -> Tensor:
        pictures.append(decode(latents))
        return pictures[-1]

    engine = DiffusionEngine(family, len(neighbours) + 1)
    vars(family)["decode"] = keep
    try:
        for i, params in enumerate(neighbours):
            engine.add(Request(str(i), params))
            if i == len(neighbours) // 2:
                drawn += _step(engine)
        engine.add(Request(_TARGET, target))
        while engine.has_work:
            drawn += _step(engine)
    finally:
        del vars(family)["decode"]
        engine.close()
    return pictures[drawn.index(_TARGET)][0].cpu()


def _step(engine: DiffusionEngine) -> list[str]:
    """The identifiers of those that were finished, in the order in which they were decoded."""
    finished = []
    for output in engine.step():
        if isinstance(output, Failure):
            raise BenchError(f"A request failed in the engine: {output.reason}")
        if isinstance(output, Result):
            finished.append(output.request_id)
    return finished
