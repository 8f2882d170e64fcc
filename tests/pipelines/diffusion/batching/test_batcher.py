from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipelines.diffusion.batching.batcher import StepBatcher
from pipelines.diffusion.batching.cost import CostModel
from pipelines.diffusion.batching.slack import AGEING, LATE_WEIGHT, SOFT_DEADLINE
from pipelines.diffusion.request import SamplingParams


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(max_batch: int, memory: int | None = None) -> tuple[StepBatcher, Clock]:
    clock = Clock()
    return StepBatcher(max_batch, clock, memory=memory), clock


def test_one_lane_steps_together() -> None:
    batcher, _ = make(4)
    for name in "abc":
        batcher.add(name, (8, 8))
    assert batcher.next_batch() == ["a", "b", "c"]
    assert "a" in batcher
    assert len(batcher) == 3


def test_the_first_by_rank_says_which_lane_goes() -> None:
    batcher, _ = make(4)
    batcher.add("long", (8, 8), seconds=10)
    batcher.add("short", (16, 16), seconds=1)
    batcher.add("shorter", (16, 16), seconds=0.5)
    assert batcher.next_batch() == ["shorter", "short"]
    batcher.update("short", 20)
    batcher.update("shorter", 20)
    assert batcher.next_batch() == ["long"]


def test_without_predictions_the_order_is_that_of_arrival() -> None:
    batcher, clock = make(2)
    for name in "abcd":
        batcher.add(name, 1)
    assert batcher.next_batch() == ["a", "b"]
    assert (batcher.active, batcher.waiting) == (2, 2)
    clock.now += 1
    assert batcher.remove("a")
    assert not batcher.remove("a")
    assert batcher.next_batch() == ["b", "c"]


def test_one_that_has_begun_sits_out_for_a_shorter_one() -> None:
    batcher, _ = make(1)
    batcher.add("long", 1, seconds=10)
    assert batcher.next_batch() == ["long"]
    batcher.add("short", 1, seconds=1)
    assert batcher.next_batch() == ["short"]
    assert (batcher.active, batcher.waiting) == (2, 0)


def test_a_deadline_comes_before_shorter_work() -> None:
    batcher, _ = make(1)
    batcher.add("short", 1, seconds=5, deadline=100)
    batcher.add("due", 1, seconds=10, deadline=11)
    assert batcher.next_batch() == ["due"]


def test_a_deadline_that_has_passed_is_no_older_than_its_request() -> None:
    batcher, clock = make(1)
    batcher.add("first", 1, seconds=1, deadline=0)
    clock.now = 10
    batcher.add("second", 1, seconds=1, deadline=-1000)
    assert batcher.next_batch() == ["first"]


def test_a_step_ends_where_the_shares_make_a_whole() -> None:
    batcher, _ = make(8)
    batcher.add("half", 1, seconds=1, fill=0.5)
    batcher.add("most", 1, seconds=2, fill=0.75)
    batcher.add("rest", 1, seconds=3, fill=0.5)
    assert batcher.next_batch() == ["half", "rest"]
    batcher.remove("half")
    batcher.remove("rest")
    batcher.add("over", 1, seconds=1, fill=2.0)
    assert batcher.next_batch() == ["over"]
    batcher.remove("over")
    for i in range(6):
        batcher.add(f"sixth {i}", 2, seconds=0.1, fill=1 / 6)
    assert len(batcher.next_batch()) == 6


def test_a_step_ends_where_the_device_saturates() -> None:
    batcher, _ = make(8)
    for i in range(8):
        batcher.add(str(i), 1, seconds=1, saturation=0.5)
    sizes = [len(batcher.next_batch()) for _ in range(16 + 32 + 64)]
    assert sizes == [2] * 15 + [4] + [2] * 31 + [4] + [2] * 63 + [4]


def test_a_step_that_is_not_full_needs_no_trial_of_a_larger_one() -> None:
    batcher, _ = make(8)
    for i in range(2):
        batcher.add(str(i), 1, seconds=1, saturation=0.5)
    assert [len(batcher.next_batch()) for _ in range(40)] == [2] * 40
    batcher.add("third", 1, seconds=1, saturation=0.5)
    assert [len(batcher.next_batch()) for _ in range(16)] == [2] * 15 + [3]


def test_what_was_measured_at_a_bad_moment_is_measured_again() -> None:
    """Steps of 16 rows take hardly longer than of 2, and seemed to take as much longer."""
    batcher, _ = make(8)
    cost = CostModel()
    request = SamplingParams(
        prompt="a fox", width=64, height=64, num_inference_steps=20, guidance_scale=5.0, seed=0
    )
    pixels = request.width * request.height
    for rows in (2, 4, 8, 16):
        cost.observe(pixels, rows, 0.02 * rows)
    assert cost.saturation(pixels, most=16) == 2
    for _ in range(3 * 16 + 1):
        for place in range(8):  # each is done after a step, and another comes
            batcher.remove(str(place))
            share = cost.saturation_share(request, most=16)
            batcher.add(str(place), 1, seconds=1, saturation=share)
        rows = 2 * len(batcher.next_batch())
        cost.observe(pixels, rows, 0.03 + 0.001 * rows)
    assert rows == 16


def test_bytes_are_held_until_a_request_leaves() -> None:
    batcher, _ = make(4, memory=100)
    batcher.add("a", 1, seconds=1, size=60)
    batcher.add("b", 1, seconds=2, size=60)
    batcher.add("c", 1, seconds=3, size=40)
    assert batcher.next_batch() == ["a"]  # c waits behind b, or b might wait for ever
    assert batcher.next_batch() == ["a"]
    batcher.remove("a")
    assert batcher.next_batch() == ["b", "c"]


def test_one_that_is_larger_than_the_budget_runs_alone() -> None:
    batcher, _ = make(4, memory=100)
    batcher.add("small", 1, seconds=1, size=10)
    batcher.next_batch()
    batcher.add("huge", 1, seconds=0.5, size=1000)
    batcher.add("too", 1, seconds=2, size=10)
    assert batcher.next_batch() == ["small"]
    batcher.remove("small")
    assert batcher.next_batch() == ["huge"]
    batcher.remove("huge")
    assert batcher.next_batch() == ["too"]


def test_out_of_memory_is_one_lane_s_matter() -> None:
    batcher, _ = make(8)
    for i in range(8):
        batcher.add(f"large {i}", "large", seconds=1)
    batcher.out_of_memory(8)  # no step was formed yet: nothing to learn
    assert len(batcher.next_batch()) == 8
    batcher.out_of_memory(8)
    batcher.out_of_memory(4)  # and its half did not fit either
    assert len(batcher.next_batch()) == 2
    for i in range(8):
        batcher.add(f"small {i}", "small", seconds=0.1)
    assert len(batcher.next_batch()) == 8


def test_a_lane_s_steps_grow_again() -> None:
    batcher, _ = make(8)
    for i in range(8):
        batcher.add(str(i), 1)
    batcher.next_batch()
    batcher.out_of_memory(8)
    sizes = [len(batcher.next_batch()) for _ in range(256 * 5)]
    assert [sizes[i * 256] for i in range(5)] == [4, 5, 6, 7, 8]
    assert sizes == sorted(sizes)
    batcher.out_of_memory(8)
    assert len(batcher.next_batch()) == 7
    assert [len(batcher.next_batch()) for _ in range(3000)][-1] == 8


def test_a_step_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        StepBatcher(0)


@dataclass
class Known:
    """What the test knows of a request."""

    lane: str
    steps: int  # left
    alone: float  # seconds of a step
    arrival: float
    due: float
    size: int
    fill: float
    load: float
    begun: bool = False
    passes: int | None = None  # steps that may pass it over, from when it is certain of its turn

    @property
    def certain(self) -> float:
        """When it goes before all that arrive later."""
        return self.due + (LATE_WEIGHT / AGEING - 1) * self.steps * self.alone


class AnyTraffic(RuleBasedStateMachine):
    """Requests of three lanes come, step, leave and run out of memory in any order."""

    @initialize(cap=st.integers(1, 5), memory=st.none() | st.integers(0, 30))
    def start(self, cap: int, memory: int | None) -> None:
        self.batcher, self.clock = make(cap, memory)
        self.cap, self.memory = cap, memory
        self.most: dict[str, int] = {}  # by lane, after it ran out of memory
        self.known: dict[str, Known] = {}
        self.names = iter(range(1_000_000))

    @rule(
        lane=st.sampled_from("xyz"),
        steps=st.integers(1, 6),
        alone=st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        deadline=st.none() | st.floats(-5, 100),
        size=st.integers(0, 12),
        fill=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]),
        load=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]),
    )
    def add(
        self,
        lane: str,
        steps: int,
        alone: float,
        deadline: float | None,
        size: int,
        fill: float,
        load: float,
    ) -> None:
        name, now = str(next(self.names)), self.clock.now
        if deadline is not None:
            deadline += now
        due = now + SOFT_DEADLINE * steps * alone if deadline is None else max(now, deadline)
        self.known[name] = Known(lane, steps, alone, now, due, size, fill, load)
        self.batcher.add(
            name,
            lane,
            seconds=steps * alone,
            deadline=deadline,
            size=size,
            fill=fill,
            saturation=load,
        )

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        del self.known[name]
        assert self.batcher.remove(name)
        assert not self.batcher.remove(name)
        self.step(0.0)  # its slot and its bytes are free at once: ``step`` looks

    @rule(seconds=st.sampled_from([1.0, 30.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0]))
    def step(self, seconds: float) -> None:
        batch = self.batch()
        self.clock.now += seconds
        for name in batch:
            request = self.known[name]
            request.steps -= 1
            if request.steps:
                self.batcher.update(name, request.steps * request.alone)
            else:
                self.batcher.remove(name)
                del self.known[name]

    @precondition(lambda self: self.known)
    @rule()
    def run_out_of_memory(self) -> None:
        """No request gets its step."""
        batch = self.batch()
        lane = self.known[batch[0]].lane
        self.batcher.out_of_memory(len(batch))
        self.most[lane] = min(self.most.get(lane, 99), max(1, len(batch) // 2))
        for request in self.known.values():
            request.passes = None

    @invariant()
    def the_counts_are_right(self) -> None:
        known = self.known.values()
        assert len(self.batcher) == len(known)
        assert self.batcher.active == sum(request.begun for request in known)
        assert self.batcher.waiting == sum(not request.begun for request in known)

    def teardown(self) -> None:
        if hasattr(self, "known"):
            for _ in range(sum(request.steps for request in self.known.values())):
                self.step(1.0)
            assert not self.known

    def batch(self) -> list[str]:
        """The next one; every promise is checked on it."""
        batch = self.batcher.next_batch()
        assert bool(batch) == bool(self.known)
        assert len(set(batch)) == len(batch)
        requests = [self.known[name] for name in batch]
        led_by_begun = bool(requests) and requests[0].begun
        for request in requests:
            request.begun = True
        if requests:
            self.check_caps(requests)
            self.check_free_slots(batch)
            self.check_nobody_starves(batch, led_by_begun)
        return batch

    def check_caps(self, batch: list[Known]) -> None:
        assert {request.lane for request in batch} == {batch[0].lane}
        assert len(batch) <= min(self.cap, self.most.get(batch[0].lane, 99))
        assert len(batch) == 1 or sum(request.fill for request in batch) <= 1.0001
        assert len(batch) == 1 or sum(request.load for request in batch) <= 2.0001
        if self.memory is not None:
            sizes = [request.size for request in self.known.values() if request.begun]
            assert sum(sizes) <= self.memory or sum(sizes) == max(sizes)

    def check_free_slots(self, batch: list[str]) -> None:
        """A step with room has all of its lane that may begin, or have begun."""
        lane = self.known[batch[0]].lane
        filled = sum(self.known[name].fill for name in batch)
        loaded = sum(self.known[name].load for name in batch)
        if len(batch) == min(self.cap, self.most.get(lane, 99)):
            return
        for name, request in self.known.items():
            fits = filled + request.fill <= 1 and loaded + request.load <= 1
            if request.lane == lane and name not in batch and fits:
                assert not request.begun
                assert self.bytes_are_short

    @property
    def bytes_are_short(self) -> bool:
        """Some request that waits does not fit: it, and who ranks after it, may not begin."""
        if self.memory is None:
            return False
        free = self.memory - sum(r.size for r in self.known.values() if r.begun)
        return any(r.size > free for r in self.known.values() if not r.begun)

    def check_nobody_starves(self, batch: list[str], led_by_begun: bool) -> None:
        """Who is certain of a turn is passed over only for what came before that time."""
        leader, now = self.known[batch[0]], self.clock.now
        for name, request in self.known.items():
            if name in batch:
                request.passes = None
            elif now >= request.certain:
                earlier = leader.arrival <= request.certain + 1e-6
                short = led_by_begun and not request.begun and self.bytes_are_short
                assert earlier or short
                if self.memory is None:
                    self.count_pass(request)

    def count_pass(self, request: Known) -> None:
        if request.passes is None:
            request.passes = sum(
                other.steps
                for other in self.known.values()
                if other is not request and other.arrival <= request.certain + 1e-6
            )
        request.passes -= 1
        assert request.passes >= 0


def test_any_traffic() -> None:
    run_state_machine_as_test(AnyTraffic, settings=settings(stateful_step_count=40))
