"""What the requests of a trace met with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.bench.serving import Served

_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from arrival to picture. ``throughput`` is pictures a second, from the first arrival
    to the last picture. ``within_5x`` is the share served within five times the seconds that the
    request takes alone under diffusers.

    With ``unfinished`` requests, which time ran out for, percentiles are lower bounds.
    """

    finished: int
    unfinished: int
    p50_s: float
    p95_s: float
    within_5x: float
    throughput: float


def summarize(passes: Sequence[Sequence[Served]], alone: Callable[[int], float]) -> Latency:
    """Over all passes together. ``alone`` is seconds by step count."""
    served = [each for once in passes for each in once]
    finished = [each for each in served if each.image is not None]
    latencies = np.array([each.latency for each in served])
    patience = [
        _PATIENCE * alone(each.arrival.request.params.num_inference_steps) for each in served
    ]
    content = [
        each.image is not None and each.latency <= limit
        for each, limit in zip(served, patience, strict=True)
    ]
    return Latency(
        finished=len(finished),
        unfinished=len(served) - len(finished),
        p50_s=float(np.percentile(latencies, 50)),
        p95_s=float(np.percentile(latencies, 95)),
        within_5x=sum(content) / len(served),
        throughput=len(finished) / sum(_span(once) for once in passes),
    )


def _span(served: Sequence[Served]) -> float:
    return max(each.left for each in served) - min(each.arrival.at for each in served)
