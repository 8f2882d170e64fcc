"""The arms against each other: mixed Poisson traces, and 16 clients who never stop asking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import mean

from pipelines.bench.arms import Arms
from pipelines.bench.calls import CallTime
from pipelines.bench.latency import Latency, summarize
from pipelines.bench.plan import BATCH, ArmName, Budget, ClockName, Plan
from pipelines.bench.serving import Served, serve_clients, serve_trace
from pipelines.bench.subject import Subject
from pipelines.bench.trace import mixed_requests, poisson_trace

_FEWEST = 9
_PATIENCE = 1.5  # a pass may take so many times what was predicted: the rest of the budget


@dataclass(frozen=True, slots=True)
class ArmLatency:
    """Both passes together, and each by itself: their difference is the noise."""

    arm: ArmName
    overall: Latency
    passes: list[Latency]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Step batching over another arm: how many times shorter, larger, and points of share."""

    arm: ArmName
    p50: float
    p95: float
    within_5x: float
    throughput: float


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """``rate`` is requests a second; ``requests`` are those of one pass."""

    load: float
    rate: float
    requests: int
    arms: list[ArmLatency]
    step_batching_against: list[Comparison]


@dataclass(frozen=True, slots=True)
class Traffic:
    """``capacity`` is in pictures a second: what full static calls of 8 would serve of the mix."""

    capacity: float
    points: list[LoadPoint]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class Clients:
    """Pictures a second with clients who ask again once served, and the ratio of both.

    ``of_raw_gain`` is that ratio over the raw denoiser's own gain at 8 pictures.
    """

    clients: int
    step_batching: float
    loop: float
    ratio: float
    raw_gain: float | None
    of_raw_gain: float | None


def measure_traffic(
    arms: Arms, subject: Subject, plan: Plan, budget: Budget, single: CallTime, full: CallTime
) -> Traffic:
    """Every arm twice at each load, in the order A B C C B A, over one and the same trace."""
    capacity = full.capacity(mean(plan.steps))
    alone = single.seconds(mean(plan.steps))
    # Seconds of work a request: static calls may have as few as one.
    busy = {name: 1 / capacity if name is ArmName.STEP else alone for name in plan.arms}
    requests = _affordable(plan, budget.left / _PATIENCE, capacity, busy)
    if requests < _FEWEST:
        return Traffic(capacity, [], [f"the trace: no time for {_FEWEST} requests of each arm"])
    points = []
    for load in plan.loads:
        rate = load * capacity
        limits = {name: _PATIENCE * requests * max(1 / rate, busy[name]) for name in busy}
        points.append(_measure_load(arms, subject, plan, load, rate, requests, limits, single))
    return Traffic(capacity, points, [])


def measure_clients(
    arms: Arms,
    subject: Subject,
    plan: Plan,
    budget: Budget,
    single: CallTime,
    raw_gain: float | None,
) -> Clients:
    """Engine, loop, loop, engine; in each pass as many pictures as in a pass of the trace."""
    limit = budget.share(0.15) / 4
    pictures = min(plan.requests, max(_FEWEST, int(limit / single.seconds(mean(plan.steps)))))
    rates: dict[ArmName, list[float]] = {ArmName.STEP: [], ArmName.LOOP: []}
    for i, name in enumerate([*rates, *reversed(rates)]):
        enough = pictures + plan.clients + BATCH  # the last step may finish more than was asked
        requests = mixed_requests(enough, plan.steps, plan.seed, subject.ask, f"c{i}-")
        with closing(arms.make(name)) as arm:
            steps = serve_clients(arm, requests, subject.clock, plan.clients, pictures, limit)
        rates[name].append(steps / mean(plan.steps))
    ours, loop = mean(rates[ArmName.STEP]), mean(rates[ArmName.LOOP])
    ratio = ours / loop
    return Clients(
        plan.clients, ours, loop, ratio, raw_gain, ratio / raw_gain if raw_gain else None
    )


def _measure_load(
    arms: Arms,
    subject: Subject,
    plan: Plan,
    load: float,
    rate: float,
    requests: int,
    limits: dict[ArmName, float],
    single: CallTime,
) -> LoadPoint:
    passes: dict[ArmName, list[list[Served]]] = {name: [] for name in plan.arms}
    for i, name in enumerate([*plan.arms, *reversed(plan.arms)]):
        asked = mixed_requests(requests, plan.steps, plan.seed, subject.ask, f"{load}-{i}-")
        trace = poisson_trace(asked, rate, plan.seed)
        with closing(arms.make(name)) as arm:
            passes[name].append(serve_trace(arm, trace, subject.clock, limits[name]))
    met = [_latency(name, served, single.seconds) for name, served in passes.items()]
    return LoadPoint(load, rate, requests, met, _compare(met))


def _latency(
    name: ArmName, passes: Sequence[Sequence[Served]], alone: Callable[[int], float]
) -> ArmLatency:
    return ArmLatency(name, summarize(passes, alone), [summarize([each], alone) for each in passes])


def _compare(arms: Sequence[ArmLatency]) -> list[Comparison]:
    ours = next((each.overall for each in arms if each.arm is ArmName.STEP), None)
    if ours is None:
        return []
    return [
        Comparison(
            arm=each.arm,
            p50=each.overall.p50_s / ours.p50_s,
            p95=each.overall.p95_s / ours.p95_s,
            within_5x=100 * (ours.within_5x - each.overall.within_5x),
            throughput=ours.throughput / each.overall.throughput,
        )
        for each in arms
        if each.arm is not ArmName.STEP and each.overall.finished
    ]


def _affordable(plan: Plan, seconds: float, capacity: float, busy: dict[ArmName, float]) -> int:
    """How many requests each pass can have. The processor's clock skips what is idle."""
    idle = 0.0 if plan.clock is ClockName.CPU else 1 / capacity
    each = sum(max(idle / load, work) for load in plan.loads for work in busy.values())
    return min(plan.requests, int(seconds / (2 * each))) if each else 0
