"""How long diffusers' own call takes, and so what a machine could serve at most by full calls."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from pipelines.bench.arms import call_pipeline
from pipelines.bench.plan import Budget
from pipelines.bench.subject import Subject
from pipelines.diffusion.request import Request

_REPEATS = 3


@dataclass(frozen=True, slots=True)
class CallTime:
    """Of a call of ``pictures``: seconds a step, and what it takes beside its steps."""

    pictures: int
    step_s: float
    rest_s: float

    def seconds(self, steps: float) -> float:
        return self.rest_s + steps * self.step_s

    def capacity(self, steps: float) -> float:
        """Pictures a second of so many steps on average, were every call full."""
        return self.pictures / self.seconds(steps)


def measure_calls(subject: Subject, pictures: int, limit_s: float) -> CallTime:
    """From calls of two lengths in turns, after one to warm up; fewer of them in less time."""
    few, many = (2, 4) if limit_s < 5 else (4, 12)
    _time_call(subject, pictures, few)
    budget = Budget(limit_s)
    short, long = [_time_call(subject, pictures, few)], [_time_call(subject, pictures, many)]
    while len(short) < _REPEATS and budget.left:
        short.append(_time_call(subject, pictures, few))
        long.append(_time_call(subject, pictures, many))
    step = max(0.0, median(long) - median(short)) / (many - few)
    return CallTime(pictures, step, max(0.0, median(short) - few * step))


def _time_call(subject: Subject, pictures: int, steps: int) -> float:
    batch = [Request(str(seed), subject.ask(steps, seed=seed)) for seed in range(pictures)]
    return subject.seconds_of(lambda: call_pipeline(subject.pipeline, batch))
