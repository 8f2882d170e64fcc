from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.diffusion.batcher import StepBatcher


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(max_batch: int) -> tuple[StepBatcher, Clock]:
    clock = Clock()
    return StepBatcher(max_batch, clock), clock


def test_one_lane_steps_together() -> None:
    batcher, _ = make(4)
    for name in "abc":
        batcher.add(name, (8, 8))
    assert batcher.next_batch() == ["a", "b", "c"]
    assert "a" in batcher
    assert len(batcher) == 3


def test_lanes_alternate() -> None:
    batcher, clock = make(4)
    batcher.add("small", (8, 8))
    batcher.add("large", (16, 16))
    batcher.add("small too", (8, 8))
    batches = []
    for _ in range(4):
        clock.now += 1
        batches.append(set(batcher.next_batch()))
    assert batches == [{"small", "small too"}, {"large"}] * 2


def test_lanes_alternate_even_if_the_clock_stands() -> None:
    batcher, _ = make(2)
    batcher.add("a", 1)
    batcher.add("b", 2)
    assert [batcher.next_batch() for _ in range(4)] == [["a"], ["b"], ["a"], ["b"]]


def test_waiting_is_in_order_of_arrival() -> None:
    batcher, _ = make(2)
    for name in "abcd":
        batcher.add(name, 1)
    assert batcher.next_batch() == ["a", "b"]
    assert (batcher.active, batcher.waiting) == (2, 2)
    assert batcher.remove("a")
    assert not batcher.remove("a")
    assert set(batcher.next_batch()) == {"b", "c"}


def test_a_lower_limit_takes_turns() -> None:
    batcher, clock = make(4)
    for name in "abcd":
        batcher.add(name, 1)
    batcher.next_batch()
    batcher.limit(2)
    batcher.limit(3)  # it never grows again
    batches = []
    for _ in range(2):
        clock.now += 1
        batches.append(batcher.next_batch())
    assert batches == [["a", "b"], ["c", "d"]]


def test_without_work() -> None:
    batcher, _ = make(1)
    assert batcher.next_batch() == []


def test_an_identifier_is_in_once() -> None:
    batcher, _ = make(1)
    batcher.add("a", 1)
    with pytest.raises(ValueError, match="'a' is in the engine already"):
        batcher.add("a", 2)


def test_a_batch_holds_at_least_one() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        StepBatcher(0)


requests = st.lists(
    st.tuples(
        st.sampled_from([(8, 8), (8, 16), (16, 16)]),
        st.integers(1, 6),  # steps
        st.integers(0, 12),  # the turn at which it arrives
    ),
    max_size=24,
)


@given(requests, st.integers(1, 5), st.sampled_from([0.0, 0.1]), st.integers(0, 8))
def test_any_traffic(
    requests: list[tuple[tuple[int, int], int, int]], cap: int, tick: float, limit_at: int
) -> None:
    """Lanes never mix, the cap holds, all are served, and none waits longer than one round."""
    batcher, clock = make(cap)
    left = {str(i): steps for i, (_, steps, _) in enumerate(requests)}
    keys = {str(i): key for i, (key, _, _) in enumerate(requests)}
    waited: Counter[str] = Counter()  # turns without a step, since its first
    begun: list[str] = []
    turn = 0
    while left:
        for i, (key, _, arrival) in enumerate(requests):
            if arrival == turn:
                batcher.add(str(i), key)
        if turn == limit_at:
            batcher.limit(2)
        before = set(begun) & left.keys()
        batch = batcher.next_batch()
        clock.now += tick
        turn += 1

        assert len(batch) == len(set(batch)) <= batcher.max_batch
        assert len({keys[name] for name in batch}) <= 1
        assert batch or len(batcher) == 0
        begun += [name for name in batch if name not in begun]
        for name in before.difference(batch):
            waited[name] += 1
            assert waited[name] < 2 * cap
        for name in batch:
            waited[name] = 0
            left[name] -= 1
            if not left[name]:
                batcher.remove(name)
                del left[name]
        assert turn < 500


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=12), st.integers(1, 3))
def test_first_come_first_begun_within_a_lane(lanes: list[str], cap: int) -> None:
    batcher, clock = make(cap)
    for i, lane in enumerate(lanes):
        batcher.add(str(i), lane)
    begun: list[int] = []
    while len(batcher):
        clock.now += 1
        for name in sorted(batcher.next_batch(), key=int):
            begun.append(int(name))
            batcher.remove(name)
    for lane in set(lanes):
        own = [i for i in begun if lanes[i] == lane]
        assert own == sorted(own)
