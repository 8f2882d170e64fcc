from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.diffusion.batching.limit import BatchLimit


def hold(limit: BatchLimit, steps: int, requests: int | None = None) -> None:
    for _ in range(steps):
        limit.held(limit.size if requests is None else requests)


def test_half_of_what_failed() -> None:
    limit = BatchLimit(8)
    assert limit.size == 4
    limit.fell(4)
    assert limit.size == 2
    limit.fell(1)
    assert limit.size == 1


def test_it_grows_by_one_after_full_steps() -> None:
    limit = BatchLimit(8)
    hold(limit, 255)
    assert limit.size == 4
    hold(limit, 1000, requests=3)  # says nothing of 4
    assert limit.size == 4
    hold(limit, 1)
    assert limit.size == 5
    hold(limit, 256)
    assert limit.size == 6


def test_a_failed_trial_falls_back_to_what_held_and_waits_longer() -> None:
    limit = BatchLimit(8)
    for patience in (256, 512, 1024):
        hold(limit, patience - 1)
        assert limit.size == 4
        hold(limit, 1)
        assert limit.size == 5
        limit.fell(5)
        assert limit.size == 4


def test_a_trial_that_held_ends_the_waiting() -> None:
    limit = BatchLimit(8)
    hold(limit, 256)
    limit.fell(5)
    hold(limit, 512)  # now five are tried again
    hold(limit, 512)
    assert limit.size == 6
    hold(limit, 256)
    assert limit.size == 7


def test_what_had_held_may_hold_no_more() -> None:
    limit = BatchLimit(16)
    hold(limit, 256)
    assert limit.size == 9
    limit.fell(9)
    assert limit.size == 8
    limit.fell(8)
    assert limit.size == 4


def test_patience_is_bounded() -> None:
    limit = BatchLimit(2)
    for failures in range(10):
        steps = 0
        while limit.size == 1:
            hold(limit, 1)
            steps += 1
        assert steps == min(256 * 2**failures, 16_384)
        limit.fell(2)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=30), st.integers(1, 16))
def test_it_stays_below_what_just_failed(events: list[tuple[bool, int]], failed: int) -> None:
    limit = BatchLimit(failed)
    for fails, steps in events:
        hold(limit, steps)
        if fails:
            size = limit.size
            limit.fell(size)
            assert limit.size == 1 or limit.size < size
        assert limit.size >= 1
