"""What a step costs beside the denoiser, and what a preview adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pipelines.bench.plan import BATCH, GUIDANCE_SCALES
from pipelines.bench.spans import LOOP, Spans, watched
from pipelines.bench.subject import Subject
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.request import Request

_EVERY = 4
"""Steps between previews, as the service has it by default."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of one step of 8 pictures that nobody joins or leaves, medians over the steps.

    ``assembly_s`` makes the rows and applies guidance, ``engine_s`` is the rest of the engine.
    ``overhead`` is both over the denoiser's time. ``join_s`` and ``leave_s`` are of one picture:
    text, first noise and noise scheduler, and VAE.
    """

    denoiser_s: float
    scheduler_s: float
    assembly_s: float
    engine_s: float
    overhead: float
    join_s: float
    leave_s: float


@dataclass(frozen=True, slots=True)
class PreviewCost:
    """``preview_s`` is of one preview; ``share`` what it adds to a step where each of 8 pictures
    shows one every ``every`` steps. ``paired_share`` is the same from whole steps with and without,
    in turns: noisier, but blind to nothing.
    """

    preview_s: float
    every: int
    share: float
    paired_share: float


def measure_overhead(
    subject: Subject, steps: int, pictures: int = BATCH
) -> tuple[StepCost, PreviewCost]:
    """Two engines in turns, one of which shows a preview of every picture at every step."""
    with watched(subject) as spans:
        plain = _engine(subject, steps, pictures, preview_every=0)
        showing = _engine(subject, steps, pictures, preview_every=1)
        bare: list[dict[str, float]] = []
        shown: list[dict[str, float]] = []
        while plain.has_work:
            bare.append(_step(spans, plain))
            shown.append(_step(spans, showing))
    for engine in (plain, showing):
        engine.close()
    return _step_cost(bare, pictures), _preview_cost(bare, shown, pictures)


def _engine(subject: Subject, steps: int, pictures: int, preview_every: int) -> DiffusionEngine:
    engine = subject.engine(pictures)
    for i in range(pictures):
        scale = GUIDANCE_SCALES[i % len(GUIDANCE_SCALES)]
        engine.add(Request(str(i), subject.ask(steps, scale, seed=i), preview_every))
    return engine


def _step(spans: Spans, engine: DiffusionEngine) -> dict[str, float]:
    spans.timed(LOOP, engine.step)()
    return spans.take()


def _step_cost(steps: Sequence[dict[str, float]], pictures: int) -> StepCost:
    first, *steady, last = steps
    denoiser, scheduler, assembly, engine = (
        _median_of(steady, name) for name in ("denoiser", "scheduler", "denoise", LOOP)
    )
    joining = first.get("encode", 0.0) + first.get("prepare", 0.0)
    set_up = max(0.0, first.get("scheduler", 0.0) - scheduler)
    return StepCost(
        denoiser_s=denoiser,
        scheduler_s=scheduler,
        assembly_s=assembly,
        engine_s=engine,
        overhead=(assembly + engine) / denoiser,
        join_s=(joining + set_up) / pictures,
        leave_s=last.get("decode", 0.0) / pictures,
    )


def _preview_cost(
    bare: Sequence[dict[str, float]], shown: Sequence[dict[str, float]], pictures: int
) -> PreviewCost:
    # The last step shows none: the picture itself comes out of it.
    preview = _median_of(shown[1:-1], "preview") / pictures
    step = median(sum(each.values()) for each in bare[1:-1])
    pairs = zip(bare[1:-1], shown[1:-1], strict=True)
    added = median(sum(dear.values()) - sum(cheap.values()) for cheap, dear in pairs)
    return PreviewCost(
        preview_s=preview,
        every=_EVERY,
        share=pictures * preview / _EVERY / step,
        paired_share=added / _EVERY / step,
    )


def _median_of(steps: Sequence[dict[str, float]], name: str) -> float:
    return median(each.get(name, 0.0) for each in steps)
