"""What is measured, and how long that takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

from loadtests.peers.arms import STARTS_IN_S, Arm, Configuration, configurations
from pipelines.bench.plan import GUIDANCE_SCALES
from pipelines.bench.trace import Arrival, mixed_requests, poisson_trace
from pipelines.diffusion.request import Request, SamplingParams

PATIENCE = 5.0
"""A picture is in time within so many times its seconds alone."""


class Trace(StrEnum):
    """``MIXED`` has 4, 20 and 50 steps by three guidance scales, ``UNIFORM`` 20 steps and one."""

    MIXED = "mixed"
    UNIFORM = "uniform"


_STEPS = {Trace.MIXED: (4, 20, 50), Trace.UNIFORM: (20,)}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        loads: Of the open loop, as shares of the best peer's capacity.
        size: Pixels a side of the open loop.
        saturated_size: Pixels a side at which only capacity is measured; None for not at all.
        threads: Tried for each arm; the fastest is taken.
        documented: Whether only what each documentation says is tried.
        rounds: Passes of each arm at each load. Every second one has the arms in reverse order.
        requests: Of a pass, or as many as are due within ``seconds`` if these are fewer.
        grace_s: From the last arrival to the deadline of a pass.
        clients: Of the closed loop that measures capacity.
        pictures: Counted by it, or as many as come within ``limit_s``.
    """

    arms: tuple[Arm, ...] = tuple(Arm)
    traces: tuple[Trace, ...] = tuple(Trace)
    loads: tuple[float, ...] = (0.3, 0.6, 0.85, 1.1)
    size: int = 32
    saturated_size: int | None = 128
    threads: tuple[int, ...] = tuple(sorted({1, os.cpu_count() or 1}))
    documented: bool = False
    rounds: int = 2
    requests: int = 160
    seconds: float = 60.0
    grace_s: float = 30.0
    clients: int = 32
    pictures: int = 160
    limit_s: float = 45.0
    warm_up: int = 18
    alone: int = 3
    steps: tuple[int, ...] | None = None

    def quick(self) -> Plan:
        """The same with little of each, to see that it runs; its figures mean nothing."""
        return replace(
            self,
            loads=self.loads if self.loads != Plan().loads else (0.6,),
            traces=self.traces[:1],
            saturated_size=None,
            threads=(1,),
            documented=True,
            rounds=1,
            requests=12,
            seconds=10.0,
            grace_s=10.0,
            clients=8,
            pictures=8,
            limit_s=20.0,
            warm_up=6,
            alone=1,
            steps=(1, 2, 3),
        )

    def steps_of(self, trace: Trace) -> tuple[int, ...]:
        """Each as often as any other."""
        return self.steps or _STEPS[trace]

    def tried(self, arm: Arm) -> list[Configuration]:
        """The configurations that are candidates."""
        return configurations(arm, self.threads, documented=self.documented)

    def make(self, trace: Trace, size: int, count: int, seed: int, label: str) -> list[Request]:
        """Requests of the trace; no prompt comes twice, so that no cache helps."""

        def ask(steps: int, guidance: float, seed: int, prompt: str) -> SamplingParams:
            return SamplingParams(
                prompt=prompt,
                width=size,
                height=size,
                num_inference_steps=steps,
                guidance_scale=guidance if trace is Trace.MIXED else GUIDANCE_SCALES[0],
                seed=seed,
            )

        return mixed_requests(count, self.steps_of(trace), seed, ask, f"{label} ")

    def arrivals(self, trace: Trace, rate: float, load: float, number: int) -> Sequence[Arrival]:
        """The same for every arm; ``number`` is the round's, which seeds it."""
        count = max(6, min(self.requests, int(rate * self.seconds)))
        requests = self.make(trace, self.size, count, number, f"{load} {number}")
        return poisson_trace(requests, rate, number)

    def minutes(self, measured: Callable[[Trace, int, Configuration], bool]) -> tuple[float, float]:
        """What the run takes at a guess, and at most if every arm starts.

        Capacities of a trace, a size in pixels and a configuration that are ``measured`` already
        cost nothing.
        """
        guess = most = 0.0
        for trace, arm in product(self.traces, self.arms):
            start = STARTS_IN_S.get(arm, 10) + self.warm_up * 0.5
            tried = self.tried(arm)
            left = sum(not measured(trace, self.size, each) for each in tried)
            guess += left * (start + 0.4 * self.limit_s)
            most += left * (start + 60 + self.limit_s)
            rounds = self.rounds if self.loads else 0
            guess += rounds * (start + len(self.loads) * (self.seconds + 0.2 * self.grace_s))
            most += rounds * len(self.loads) * (start + self.seconds + self.grace_s)
            large = self.saturated_size
            if large is not None and not any(measured(trace, large, each) for each in tried):
                guess += start + 3 * self.warm_up + self.limit_s
                most += start + 6 * self.warm_up + self.limit_s
        return guess / 60, most / 60
