"""The schedule of faults."""

from __future__ import annotations

import pytest

from loadtests.chaos.faults import FAULTS
from loadtests.chaos.plans import make_plans
from loadtests.chaos.schedule import TooShort, make_schedule


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert make_schedule(7, 30, 5) == make_schedule(7, 30, 5)
    assert make_schedule(7, 30, 5) != make_schedule(8, 30, 5)


def test_the_same_seed_gives_the_same_jobs() -> None:
    first, second, other = make_plans(7), make_plans(7), make_plans(8)
    plans = [next(first) for _ in range(50)]
    assert plans == [next(second) for _ in range(50)]
    assert plans != [next(other) for _ in range(50)]
    assert len({plan.key for plan in plans}) == 50


@pytest.mark.parametrize("seed", range(5))
def test_it_has_the_kills_that_were_asked_for_within_the_time(seed: int) -> None:
    schedule = make_schedule(seed, 40, 6)
    assert sum(planned.fault.startswith("kill-") for planned in schedule) == 40
    assert max(planned.at + planned.seconds for planned in schedule) <= 6 * 60
    assert [planned.at for planned in schedule] == sorted(planned.at for planned in schedule)
    assert {planned.fault for planned in schedule} <= set(FAULTS)


def test_a_long_one_has_every_fault() -> None:
    assert {planned.fault for planned in make_schedule(1, 120, 20)} == set(FAULTS)


def test_nothing_else_happens_while_postgres_or_the_storage_is_away() -> None:
    schedule = make_schedule(3, 120, 20)
    alone = {"stop-postgres", "fill-storage", "stall-database"}
    alone |= {"read-only-database", "promote-standby"}
    for outage in (planned for planned in schedule if planned.fault in alone):
        meanwhile = [
            other.fault
            for other in schedule
            if other is not outage
            and other.at < outage.at + outage.seconds
            and other.at + other.seconds > outage.at
        ]
        assert meanwhile == []


def test_too_many_kills_are_refused_with_the_time_they_need() -> None:
    with pytest.raises(TooShort, match=r"100 kills need 1\d\.\d minutes"):
        make_schedule(1, 100, 2)
