"""What a job waits for is predicted as claims take pictures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.jobs.price import Price, PriceList
from serve.jobs.turns import EDGES_S, PricedJob, QueuedPictures, QueuePosition, Turn, Turns
from tests.serve.conftest import ask
from tests.serve.worker.test_fairness import Tenants, queued

LAST = len(EDGES_S)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def turns_of(tenants: Tenants) -> Turns:
    """What a look would find, every picture of a tenant being overdue."""
    ring = {
        tenant: Turn(
            tenants.weights[tenant],
            tenants.deficits[tenant],
            BEGAN + timedelta(seconds=tenants.ring.index(tenant)),
        )
        for tenant in tenants.waiting
    }
    waiting = {
        QueuePosition(tenant, 0, 0): QueuedPictures(
            len(queue), sum(each.seconds for each in queue), max(each.seconds for each in queue)
        )
        for tenant, queue in tenants.waiting.items()
        if queue
    }
    return Turns(ring, waiting)


def drawn_before(tenants: Tenants, tenant: UUID, seconds: float) -> float:
    """Device seconds that claims take before a picture that is queued now."""
    picture = queued(seconds)
    tenants.waiting[tenant].append(picture)
    before = 0.0
    while picture not in (taken := tenants.call(1)):
        before += taken[0].seconds
    return before


def job_of(tenant: UUID, seconds: float) -> PricedJob:
    return PricedJob(QueuePosition(tenant, 0, LAST), 1, Price(device=seconds, alone=seconds))


@pytest.mark.parametrize("claimed", range(5))
def test_equal_pictures_are_predicted_to_the_picture(claimed: int) -> None:
    for tenant in range(3):
        tenants = Tenants([[1.0] * 40, [1.0] * 3, [1.0] * 20], [1, 1, 1])
        for _ in range(claimed):
            tenants.call(1)
        wait = turns_of(tenants).wait(job_of(UUID(int=tenant), 1.0), {})
        assert wait.seconds == drawn_before(tenants, UUID(int=tenant), 1.0)


@given(
    costs=st.lists(
        st.lists(st.floats(0.01, 10, allow_nan=False), min_size=0, max_size=20),
        min_size=1,
        max_size=5,
    ),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=5, max_size=5),
    claimed=st.integers(0, 12),
    seconds=st.floats(0.01, 10, allow_nan=False),
)
def test_what_is_predicted_is_what_is_drawn_to_a_few_turns(
    costs: list[list[float]], weights: list[float], claimed: int, seconds: float
) -> None:
    tenants = Tenants(costs, weights[: len(costs)])
    for _ in range(claimed):
        tenants.call(1)
    tenant = UUID(int=0)
    predicted = turns_of(tenants).wait(job_of(tenant, seconds), {}).seconds
    dearest = max([seconds, *(cost for queue in costs for cost in queue)])
    # Turns of all the others, by weight, while the lightest tenant is given one picture.
    few = 3 * dearest * (1 + sum(weights[1 : len(costs)]) / weights[0])
    assert predicted == pytest.approx(drawn_before(tenants, tenant, seconds), abs=few)


def test_priority_and_slack_decide_among_a_tenants_own() -> None:
    tenant = UUID(int=1)
    waiting = {
        QueuePosition(tenant, 5, LAST): QueuedPictures(1, 1.0, 1.0),
        QueuePosition(tenant, 0, 0): QueuedPictures(1, 2.0, 2.0),
        QueuePosition(tenant, 0, 10): QueuedPictures(1, 4.0, 4.0),
        QueuePosition(tenant, -5, 0): QueuedPictures(1, 8.0, 8.0),
    }
    turns = Turns({tenant: Turn(1, 0, BEGAN)}, waiting)
    own = {
        (priority, slot): turns.wait(
            PricedJob(QueuePosition(tenant, priority, slot), 1, Price(1.0, 1.0)), {}
        ).own_s
        for priority, slot in ((5, 0), (0, 0), (0, 9), (0, 10), (-5, 0), (-6, 0))
    }
    assert own == {(5, 0): 0, (0, 0): 3, (0, 9): 3, (0, 10): 7, (-5, 0): 15, (-6, 0): 15}


def test_what_was_let_in_since_counts() -> None:
    tenant, other = UUID(int=1), UUID(int=2)
    turns = Turns({}, {})
    job = job_of(tenant, 1.0)
    let_in = {job.position: 2.0, QueuePosition(other, 0, 0): 1.5, QueuePosition(tenant, -1, 0): 9.0}
    wait = turns.wait(job, let_in)
    assert (wait.own_s, wait.others_s) == (2.0, 1.5)
    assert not wait.is_within(8)


def test_a_deadline_has_its_slot() -> None:
    def slot(deadline_s: float | None) -> int:
        request = ask(deadline_s=deadline_s)
        return PricedJob.of(UUID(int=1), request, PriceList().price(request)).position.slot

    slots = [slot(deadline_s) for deadline_s in (0.001, 60, 80, 3600, 604_800)]
    assert slots == sorted(set(slots))
    assert slots[0] == 0, "too late already"
    assert slots[-1] < LAST


def test_background_tenants_come_after_all_that_others_have_queued() -> None:
    tenants = Tenants([[1.0] * 4, [1.0] * 3, [1.0] * 5], [1, 0, 0])
    pays, idle, _ = tenants.waiting
    turns = turns_of(tenants)
    assert turns.wait(job_of(pays, 1.0), {}).others_s == 0
    wait = turns.wait(job_of(idle, 1.0), {})
    assert (wait.own_s, wait.others_s) == (3, 4 + 3), "the other idle one has had a turn less"
    assert not wait.is_within(4)
