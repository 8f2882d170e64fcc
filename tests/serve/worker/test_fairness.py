"""Deficit round robin, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from serve.worker.queue import (
    QueuedPicture,
    Shape,
    TenantQueue,
    Verdict,
    ring_order,
    take_turns,
)

QUEUED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def queued(seconds: float, id_: UUID | None = None) -> QueuedPicture:
    shape = Shape(64, 64, "model")
    return QueuedPicture(id_ or uuid4(), seconds, shape, 0, QUEUED_AT, QUEUED_AT, 0)


def take_any(_: QueuedPicture) -> Verdict:
    return Verdict.TAKE


class Tenants:
    """What the tables keep between calls: queues, deficits, and the ring."""

    def __init__(self, costs: list[list[float]], weights: list[float]) -> None:
        ids = count(1)
        self.waiting = {
            UUID(int=tenant): [queued(cost, UUID(int=1000 + next(ids))) for cost in queue]
            for tenant, queue in enumerate(costs)
        }
        self.weights = dict(zip(self.waiting, weights, strict=True))
        self.deficits = dict.fromkeys(self.waiting, 0.0)
        self.ring = list(self.waiting)
        self.served = dict.fromkeys(self.waiting, 0.0)

    def call(self, limit: int, window: int = 100) -> list[QueuedPicture]:
        queues = [
            TenantQueue(
                tenant,
                self.waiting[tenant][:window],
                self.weights[tenant],
                self.deficits[tenant],
                whole=len(self.waiting[tenant]) <= window,
            )
            for tenant in self.ring
            if self.waiting[tenant]
        ]
        taken = take_turns(queues, limit, take_any)
        for queue in queues:
            before = self.deficits[queue.tenant_id]
            self.deficits[queue.tenant_id] = 0.0 if queue.emptied else before + queue.change
        order = [queue.tenant_id for queue in ring_order(queues)]
        self.ring = [tenant for tenant in self.ring if tenant not in order] + order
        for picture in taken:
            for tenant, waiting in self.waiting.items():
                if picture in waiting:
                    waiting.remove(picture)
                    self.served[tenant] += picture.seconds
        return taken


def test_who_queues_more_gets_no_more() -> None:
    tenants = Tenants([[1.0] * 100, [1.0] * 4], [1, 1])
    first = tenants.call(8)
    assert tenants.served == {UUID(int=0): 4.0, UUID(int=1): 4.0}
    assert len(first) == 8


def test_shares_are_of_seconds_and_not_of_pictures() -> None:
    tenants = Tenants([[4.0] * 50, [1.0] * 200], [1, 1])
    for _ in range(20):
        tenants.call(5)
    dear, cheap = tenants.served.values()
    assert abs(dear - cheap) <= 2 * 4.0


def test_weights_are_kept() -> None:
    tenants = Tenants([[1.0] * 500, [1.0] * 500], [3, 1])
    for _ in range(50):
        tenants.call(4)
    heavy, light = tenants.served.values()
    assert heavy + light == 200
    assert abs(heavy - 3 * light) <= 8


def test_a_lone_tenant_takes_all() -> None:
    assert len(Tenants([[1.0] * 10], [1]).call(8)) == 8


def test_a_picture_that_was_passed_over_stays_and_the_next_is_taken() -> None:
    first, second = queued(1.0), queued(1.0)
    queue = TenantQueue(uuid4(), [first, second])
    judged = {first.id: Verdict.PASS, second.id: Verdict.TAKE}
    assert take_turns([queue], 8, lambda each: judged[each.id]) == [second]
    assert not queue.emptied, "there is a picture left"


def test_the_end_is_the_end_for_all_tenants() -> None:
    queues = [TenantQueue(uuid4(), [queued(1.0)]) for _ in range(2)]
    assert take_turns(queues, 8, lambda _: Verdict.END) == []


@given(
    costs=st.lists(
        st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=30), min_size=1, max_size=5
    ),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=5, max_size=5),
    limits=st.lists(st.integers(1, 9), min_size=1, max_size=30),
)
def test_backlogged_tenants_differ_by_less_than_three_quanta(
    costs: list[list[float]], weights: list[float], limits: list[int]
) -> None:
    """The bound of the paper: between tenants that never ran out, shares differ by a constant."""
    tenants = Tenants(costs, weights[: len(costs)])
    for limit in limits:
        before = {tenant: len(waiting) for tenant, waiting in tenants.waiting.items()}
        taken = tenants.call(limit)
        assert len(taken) == min(limit, sum(before.values()))
        assert len({picture.id for picture in taken}) == len(taken)
        dearest = max(max(queue) for queue in costs) + 1e-3
        backlogged = [tenant for tenant, waiting in tenants.waiting.items() if waiting]
        shares = [tenants.served[tenant] / tenants.weights[tenant] for tenant in backlogged]
        if shares:
            # The quantum is given by weight, and the lightest tenant's is half of it.
            assert max(shares) - min(shares) <= 3 * dearest / 0.5 + 0.1
        assert all(deficit >= -1e-6 for deficit in tenants.deficits.values())
