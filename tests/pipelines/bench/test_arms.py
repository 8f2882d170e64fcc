"""Each request is served once, with the same picture by whichever arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipelines.bench.arms import Arm, Arms, DiffusersCalls, StepBatching
from pipelines.bench.clock import CpuClock, WallClock
from pipelines.bench.errors import BenchError
from pipelines.bench.latency import summarize
from pipelines.bench.plan import ArmName
from pipelines.bench.serving import Served, serve_clients, serve_trace
from pipelines.bench.subject import Subject
from pipelines.bench.trace import Arrival, mixed_requests, poisson_trace
from pipelines.diffusion.request import Request

# diffusers 0.42 has not caught up with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

PLENTY = 300.0  # seconds
STEPS = (2, 5, 9)


def serve(arm: Arm, trace: Sequence[Arrival]) -> dict[str, Served]:
    served = serve_trace(arm, trace, WallClock(), PLENTY)
    assert len(served) == len(trace)
    return {each.arrival.request.id: each for each in served}


def test_same_pictures_from_every_arm(subject: Subject) -> None:
    trace = poisson_trace(mixed_requests(9, STEPS, 0, subject.ask), rate=50.0, seed=0)
    arms = Arms(subject)
    ours = serve(arms.make(ArmName.STEP), trace)
    assert set(ours) == {arrival.request.id for arrival in trace}
    for name in (ArmName.STATIC, ArmName.LOOP):
        theirs = serve(arms.make(name), trace)
        assert set(theirs) == set(ours)
        for id_, each in theirs.items():
            image, reference = ours[id_].image, each.image
            assert image is not None
            assert reference is not None
            assert np.abs(image.astype(int) - reference.astype(int)).max() <= 1


def test_steps_are_counted_alike(subject: Subject) -> None:
    requests = mixed_requests(4, STEPS, 0, subject.ask)
    arms = Arms(subject)
    for name in ArmName:
        arm = arms.make(name)
        for request in requests:
            arm.accept(request)
        while arm.busy:
            arm.work()
        assert arm.steps_done == sum(each.params.num_inference_steps for each in requests)


def test_a_static_batch_shares_the_first_ones_key(subject: Subject) -> None:
    arm = DiffusersCalls(subject.pipeline, batch=2)
    asked = {
        "first": subject.ask(2, 5.0),
        "other steps": subject.ask(3, 5.0),
        "other guidance": subject.ask(2, 3.0),
        "same": subject.ask(2, 5.0, seed=7),
        "same, too many": subject.ask(2, 5.0, seed=8),
    }
    for id_, params in asked.items():
        arm.accept(Request(id_, params))
    calls = []
    while arm.busy:
        calls.append([picture.request_id for picture in arm.work()])
    assert calls == [["first", "same"], ["other steps"], ["other guidance"], ["same, too many"]]


def test_a_failed_request_ends_the_bench(subject: Subject) -> None:
    arm = StepBatching(subject.engine(8))
    arm.accept(Request("none", subject.ask(0)))
    with pytest.raises(BenchError, match="must be from 1 to"):
        arm.work()


def test_out_of_time(subject: Subject) -> None:
    trace = [
        Arrival(0.0, Request("early", subject.ask(2))),
        Arrival(9e9, Request("late", subject.ask(2))),
    ]
    served = serve_trace(Arms(subject).make(ArmName.LOOP), trace, WallClock(), limit_s=0.0)
    assert {each.arrival.request.id for each in served} == {"early", "late"}
    assert all(each.image is None for each in served)
    assert all(each.latency >= 0 for each in served)


def test_a_closed_arm_leaves_the_engine_empty(subject: Subject) -> None:
    arms = Arms(subject)
    first = arms.make(ArmName.STEP)
    first.accept(Request("one", subject.ask(4)))
    first.work()
    assert first.busy
    first.close()
    assert not arms.make(ArmName.STEP).busy
    arms.close()


def test_idle_time_is_skipped_by_the_processors_clock(subject: Subject) -> None:
    an_hour = 3600.0
    trace = [Arrival(an_hour, Request("late", subject.ask(2)))]
    (served,) = serve_trace(Arms(subject).make(ArmName.STEP), trace, CpuClock(), 2 * an_hour)
    assert served.image is not None
    assert served.left > an_hour


def test_clients_ask_again_until_so_many_are_served(subject: Subject) -> None:
    class Counting:
        """Serves the first of its requests in one step."""

        steps_done = 0

        def __init__(self) -> None:
            self.arm = Arms(subject).make(ArmName.LOOP)
            self.asked: list[str] = []

        @property
        def busy(self) -> bool:
            return self.arm.busy

        def accept(self, request: Request) -> None:
            self.asked.append(request.id)
            self.arm.accept(request)

        def work(self) -> list:  # type: ignore[type-arg]
            pictures = self.arm.work()
            self.steps_done = self.arm.steps_done
            return pictures

        def close(self) -> None:
            self.arm.close()

    arm = Counting()
    requests = [Request(str(i), subject.ask(2, seed=i)) for i in range(8)]
    assert serve_clients(arm, requests, WallClock(), clients=3, pictures=5, limit_s=PLENTY) > 0
    assert arm.asked == [str(i) for i in range(8)]
    assert arm.steps_done == 10


def test_latency() -> None:
    class Params:
        num_inference_steps = 10

    def served(at: float, left: float, *, drawn: bool = True) -> Served:
        request = Request("id", Params())  # type: ignore[arg-type]
        return Served(Arrival(at, request), left, np.zeros((1, 1, 3), np.uint8) if drawn else None)

    passes = [
        [served(0, 1), served(1, 3), served(2, 8)],
        [served(0, 4), served(1, 5, drawn=False), served(2, 8)],
    ]
    latency = summarize(passes, lambda steps: steps * 0.1)
    assert latency.finished == 5
    assert latency.unfinished == 1
    assert latency.p50_s == 4.0  # of 1, 2, 4, 4, 6, 6
    assert latency.within_5x == 3 / 6
    assert latency.throughput == pytest.approx(5 / 16)
