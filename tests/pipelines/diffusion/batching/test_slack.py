from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.diffusion.batching.slack import AGEING, LATE_WEIGHT, QueuedRequest

seconds = st.floats(0, 100)
times = st.floats(0, 1000)


def request(due: float, seconds: float) -> QueuedRequest:
    return QueuedRequest("a", "lane", 0, due, seconds, 0, 0.0, 0.0)


def test_of_equal_work_the_tighter_goes_first() -> None:
    assert request(due=20, seconds=10).rank(now=0) < request(due=30, seconds=10).rank(now=0)


def test_of_equal_slack_the_shorter_goes_first() -> None:
    assert request(due=15, seconds=5).rank(now=0) < request(due=20, seconds=10).rank(now=0)


def test_a_tight_deadline_goes_before_shorter_work_that_can_wait() -> None:
    assert request(due=11, seconds=10).rank(now=0) < request(due=100, seconds=5).rank(now=0)


def test_who_can_be_in_time_no_more_yields() -> None:
    assert request(due=9, seconds=10).rank(now=0) > request(due=50, seconds=10).rank(now=0)


@given(times, seconds, times, times, seconds)
def test_in_the_end_it_goes_before_all_that_arrive_later(
    due: float, work: float, wait: float, delay: float, other_work: float
) -> None:
    """The time of ``rank``'s docstring, against a newcomer that is due as it arrives, or later."""
    certain = due + (LATE_WEIGHT / AGEING - 1) * work
    now = certain + wait
    arrival = certain + 1e-6
    assume(arrival <= now)
    newcomer = request(arrival + delay, other_work)
    assert request(due, work).rank(now) <= newcomer.rank(now) + 1e-6
