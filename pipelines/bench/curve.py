"""The batch curve: the raw denoiser at 1 to 16 pictures, and the engine against it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch

from pipelines.bench.denoiser import RawForward, record_forward
from pipelines.bench.plan import Budget, Plan
from pipelines.bench.subject import Subject
from pipelines.diffusion.request import Request


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Of a step batch of ``pictures``, all guided.

    ``gain`` is the raw denoiser's throughput over its own at one picture. ``engine_ratio`` is the
    engine's throughput over the raw denoiser's in steps that nobody joins or leaves: the median
    of pairs that were timed one after the other. ``whole_ratio`` is the same over whole pictures,
    text encoding and VAE included.
    """

    pictures: int
    forward_s: float
    gain: float
    flops: float
    step_s: float
    engine_ratio: float
    whole_ratio: float


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """``flops_per_picture`` is of one step's forward of one guided picture."""

    flops_per_picture: int
    points: list[CurvePoint]
    left_out: list[str]

    def gain(self, pictures: int) -> float | None:
        gains = (point.gain for point in self.points if point.pictures == pictures)
        return next(gains, None)


def measure_curve(subject: Subject, plan: Plan, budget: Budget) -> BatchCurve:
    """Leaves out the batches that time or memory does not suffice for, and says so."""
    single = record_forward(subject, 1)
    flops = single.flops()
    points: list[CurvePoint] = []
    left_out: list[str] = []
    end = budget.left - budget.share(0.25)
    alone = subject.seconds_of(single)
    for pictures in plan.batches:
        limit = budget.left - end
        if points and pictures * points[-1].forward_s / points[-1].pictures * 10 > limit:
            left_out.append(f"{pictures} pictures: would take longer than the time given")
            continue
        try:
            point = _measure_point(subject, pictures, plan.curve_steps, limit / 2, flops, alone)
        except torch.OutOfMemoryError:
            left_out.append(f"{pictures} pictures: out of memory")
            continue
        alone = point.forward_s if pictures == 1 else alone
        points.append(point)
    return BatchCurve(flops, points, left_out)


def _measure_point(
    subject: Subject, pictures: int, steps: int, limit_s: float, flops: int, alone_s: float
) -> CurvePoint:
    forward = record_forward(subject, pictures)
    estimate = subject.seconds_of(forward)
    steps = max(4, min(steps, int(limit_s / (2 * estimate))))
    raw, ours, evaluations = _time_in_turns(subject, forward, pictures, steps)
    ratios = [bare / step for bare, step in zip(raw, ours, strict=True)]
    forward_s = median(raw)
    return CurvePoint(
        pictures=pictures,
        forward_s=forward_s,
        gain=pictures * (forward_s if pictures == 1 else alone_s) / forward_s,
        flops=flops * pictures / forward_s,
        step_s=median(ours[1:-1]),
        engine_ratio=median(ratios[1:-1]),
        whole_ratio=forward_s * evaluations / sum(ours),
    )


def _time_in_turns(
    subject: Subject, forward: RawForward, pictures: int, steps: int
) -> tuple[list[float], list[float], int]:
    """Seconds of raw forwards and of the engine's steps: all join at the first, leave at the last.

    And how often the denoiser was evaluated for each. Taken in turns, so that what else the
    machine does falls on both.
    """
    engine = subject.engine(pictures)
    for seed in range(pictures):
        engine.add(Request(str(seed), subject.ask(steps, seed=seed)))
    raw, ours = [], []
    while engine.has_work:
        raw.append(subject.seconds_of(forward))
        ours.append(subject.seconds_of(engine.step))
    evaluations = engine.stats().steps
    engine.close()
    return raw, ours, evaluations
