"""An arm in real time: by a trace of arrivals, or by clients who ask again once they are served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.bench.arms import Arm
from pipelines.bench.clock import Clock
from pipelines.bench.trace import Arrival
from pipelines.diffusion.request import Request


@dataclass(frozen=True, slots=True)
class Served:
    """``left`` is in seconds from the trace's start; where it came to nothing, when time ran out.

    ``image`` is None there.
    """

    arrival: Arrival
    left: float
    image: NDArray[np.uint8] | None

    @property
    def latency(self) -> float:
        """Seconds from its arrival; without an image, at least that."""
        return self.left - self.arrival.at


def serve_trace(arm: Arm, trace: Sequence[Arrival], clock: Clock, limit_s: float) -> list[Served]:
    """One for each arrival. After ``limit_s`` no more work is begun."""
    pending, waiting = deque(trace), {}
    served = []
    start = clock.now()
    while (pending or arm.busy) and clock.now() - start < limit_s:
        now = clock.now() - start
        while pending and pending[0].at <= now:
            arrival = pending.popleft()
            waiting[arrival.request.id] = arrival
            arm.accept(arrival.request)
        if not arm.busy:
            clock.sleep(min(pending[0].at - now, limit_s))
            continue
        pictures = arm.work()
        now = clock.now() - start
        served += [Served(waiting.pop(each.request_id), now, each.image) for each in pictures]
    end = clock.now() - start
    return served + [
        Served(each, max(end, each.at), None) for each in (*waiting.values(), *pending)
    ]


def serve_clients(
    arm: Arm,
    requests: Iterable[Request],
    clock: Clock,
    clients: int,
    pictures: int,
    limit_s: float,
) -> float:
    """Denoising steps a second of all pictures together, until so many of them are finished.

    Each client asks anew as soon as it is served, so that the arm is never short of work, and
    what is in it at the end is left there: filling and emptying do not count. The VAE's time does.
    """
    source = iter(requests)
    for _ in range(clients):
        arm.accept(next(source))
    finished = 0
    start = clock.now()
    while finished < pictures and clock.now() - start < limit_s:
        done = len(arm.work())
        finished += done
        for _ in range(done):
            arm.accept(next(source))
    return arm.steps_done / (clock.now() - start)
