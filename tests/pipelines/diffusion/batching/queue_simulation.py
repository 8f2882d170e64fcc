"""A queue of mixed requests in simulated time: no model, no clock of the machine.

Requests of 4, 20 and 50 steps arrive at random (Poisson), in up to three sizes. A second is what
a step of one request of the smallest size takes. The load is relative to full batches of eight.
``python -m tests.pipelines.diffusion.batching.queue_simulation`` prints the tables of ADR 0007.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from statistics import mean

from pipelines.diffusion.batching.batcher import StepBatcher
from pipelines.diffusion.batching.slack import SOFT_DEADLINE

MAX_BATCH = 8
SCALES = (1, 2, 4)  # of the lanes' pixels
STEPS = (4, 20, 50)
SEEDS = range(100, 104)  # none of those on which the ranking's constants were chosen


@dataclass(frozen=True)
class Device:
    """Seconds of a step: ``fixed`` whatever it holds, ``growing`` for each row."""

    fixed: float
    growing: float

    def seconds(self, lane: int, rows: int) -> float:
        return self.fixed + SCALES[lane] * self.growing * rows

    def saturation(self, lane: int) -> int:
        """The least rows, a power of two, within 5 % of the best throughput."""
        rows = [1 << i for i in range(MAX_BATCH.bit_length())]
        best = max(n / self.seconds(lane, n) for n in rows)
        return next(n for n in rows if n / self.seconds(lane, n) >= 0.95 * best)


DEVICES = {
    "launch-bound": Device(0.9, 0.1),  # 4.7 times the throughput at eight rows
    "between": Device(0.6, 0.4),  # 2.1 times: the embedded model on a CPU
    "saturated": Device(0.05, 0.95),  # 1.05 times: a large picture on a GPU
}


@dataclass(eq=False)
class Job:
    name: str
    arrival: float
    steps: int
    lane: int
    alone: float  # seconds of a step, alone
    left: int = field(init=False)
    served: int = 0  # a counter's reading at its last step
    done: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.steps

    @property
    def slowdown(self) -> float:
        return (self.done - self.arrival) / (self.steps * self.alone)


def trace(device: Device, lanes: int, load: float, jobs: int, seed: int) -> list[Job]:
    draw = random.Random(seed)
    full = mean(device.seconds(lane, MAX_BATCH) / MAX_BATCH for lane in range(lanes))
    rate = load / (mean(STEPS) * full)
    now, made = 0.0, []
    for i in range(jobs):
        now += draw.expovariate(rate)
        lane = draw.randrange(lanes)
        made.append(Job(str(i), now, draw.choice(STEPS), lane, device.seconds(lane, 1)))
    return made


class Policy:
    """Forms step batches; told of arrivals and of the time."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.now = 0.0
        self.jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        self.jobs[job.name] = job

    def batch(self) -> list[Job]:
        raise NotImplementedError

    def made(self, batch: list[Job]) -> None:
        for job in batch:
            if not job.left:
                del self.jobs[job.name]


class Static(Policy):
    """The oldest request and what shares its size and its steps, from first step to last."""

    running: list[Job]

    def batch(self) -> list[Job]:
        self.running = [job for job in getattr(self, "running", []) if job.left]
        if not self.running:
            first = next(iter(self.jobs.values()))
            alike = [
                job
                for job in self.jobs.values()
                if (job.lane, job.steps) == (first.lane, first.steps)
            ]
            self.running = alike[:MAX_BATCH]
        return self.running


class Alternating(Policy):
    """Eight active in order of arrival, over all lanes; the lane of the longest unserved goes."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.turns = count()

    def batch(self) -> list[Job]:
        active = sorted(list(self.jobs.values())[:MAX_BATCH], key=lambda job: job.served)
        return [job for job in active if job.lane == active[0].lane]

    def made(self, batch: list[Job]) -> None:
        for job in batch:
            job.served = next(self.turns) + 1
        super().made(batch)


class ShortestRemaining(Policy):
    def rank(self, job: Job) -> float:
        return job.left * job.alone

    def batch(self) -> list[Job]:
        ranked = sorted(self.jobs.values(), key=self.rank)
        return [job for job in ranked if job.lane == ranked[0].lane][:MAX_BATCH]


class EarliestDeadline(ShortestRemaining):
    def rank(self, job: Job) -> float:
        return job.arrival + SOFT_DEADLINE * job.steps * job.alone


class Slack(Policy):
    """The StepBatcher itself; with ``saturating``, its steps end where the device saturates.

    It is given at most ``held`` requests at a time, in order of arrival.
    """

    def __init__(self, device: Device, saturating: bool = False, held: int | None = None) -> None:
        super().__init__(device)
        self.saturating = saturating
        self.held = held
        self.outside: deque[Job] = deque()
        self.batcher = StepBatcher(MAX_BATCH, lambda: self.now)

    def add(self, job: Job) -> None:
        super().add(job)
        self.outside.append(job)

    def batch(self) -> list[Job]:
        while self.outside and (self.held is None or len(self.batcher) < self.held):
            job = self.outside.popleft()
            load = 1 / self.device.saturation(job.lane) if self.saturating else 0.0
            self.batcher.add(job.name, job.lane, seconds=job.steps * job.alone, saturation=load)
        return [self.jobs[name] for name in self.batcher.next_batch()]

    def made(self, batch: list[Job]) -> None:
        for job in batch:
            self.batcher.update(job.name, job.left * job.alone)
            if not job.left:
                self.batcher.remove(job.name)
        super().made(batch)


POLICIES: dict[str, Callable[[Device], Policy]] = {
    "static": Static,
    "alternating": Alternating,
    "shortest remaining": ShortestRemaining,
    "earliest deadline": EarliestDeadline,
    "slack": Slack,
    "slack, saturating": partial(Slack, saturating=True),
    "the same, 8 held": partial(Slack, saturating=True, held=8),
    "the same, 16 held": partial(Slack, saturating=True, held=16),
    "the same, 32 held": partial(Slack, saturating=True, held=32),
}


def simulate(policy: Policy, jobs: list[Job]) -> None:
    """Fills in when each job is done; they are in order of arrival."""
    coming = deque(jobs)
    while coming or policy.jobs:
        if not policy.jobs:
            policy.now = max(policy.now, coming[0].arrival)
        while coming and coming[0].arrival <= policy.now:
            policy.add(coming.popleft())
        batch = policy.batch()
        policy.now += policy.device.seconds(batch[0].lane, len(batch))
        for job in batch:
            job.left -= 1
            job.done = policy.now
        policy.made(batch)


@dataclass(frozen=True)
class Outcome:
    share: float  # done within five times their time alone
    p50: float  # seconds from arrival to the picture
    p95: float


def outcome(policy: str, device: str, lanes: int, load: float, jobs: int, seed: int) -> Outcome:
    made = trace(DEVICES[device], lanes, load, jobs, seed)
    simulate(POLICIES[policy](DEVICES[device]), made)
    seconds = sorted(job.done - job.arrival for job in made)
    return Outcome(
        sum(job.slowdown <= SOFT_DEADLINE for job in made) / jobs,
        seconds[jobs // 2],
        seconds[jobs * 95 // 100],
    )


def tables(loads: Sequence[float] = (0.3, 0.6, 0.85, 1.1), jobs: int = 500) -> str:
    """In Markdown, the means over the seeds: share within five times alone, p50, p95."""
    lines = []
    for device in DEVICES:
        for lanes in (1, 2, 3):
            lines += [f"\n| {device}, lanes: {lanes} | {' | '.join(map(str, loads))} |"]
            lines += ["|---" * (1 + len(loads)) + "|"]
            for policy in POLICIES:
                cells = []
                for load in loads:
                    runs = [outcome(policy, device, lanes, load, jobs, seed) for seed in SEEDS]
                    share = mean(run.share for run in runs)
                    p50, p95 = mean(run.p50 for run in runs), mean(run.p95 for run in runs)
                    cells.append(f"{share:.2f}, {p50:.0f}, {p95:.0f}")
                lines.append(f"| {policy} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(tables() + "\n")
