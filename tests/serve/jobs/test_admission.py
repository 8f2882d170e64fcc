"""The door, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import event

from pipelines.diffusion.batching.cost import CostModel
from serve.database import Database
from serve.jobs.admission import Admission
from serve.jobs.claims import Claims
from serve.jobs.errors import IdempotencyConflict, Overloaded
from serve.jobs.lifecycle import Jobs
from serve.jobs.price import PriceList
from serve.models import JobState
from serve.settings import Settings
from tests.serve.clock import Clock
from tests.serve.jobs.conftest import MODEL, ask

EACH = PriceList().price(ask()).device


def door(database: Database, pictures: float) -> Admission:
    """Closed once so many of ``ask``'s pictures wait."""
    return Admission(database, [MODEL], max_wait_s=pictures * EACH)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serve.jobs.admission.monotonic", clock)
    return clock


async def looked(admission: Admission) -> None:
    """A look that is under way is over."""
    while admission._looking:
        await asyncio.sleep(0.01)


@pytest.fixture
async def queries(database: Database) -> AsyncIterator[list[str]]:
    """Every statement that reaches Postgres."""
    seen: list[str] = []

    def see(*told: object) -> None:
        seen.append(str(told[2]))

    event.listen(database.engine.sync_engine, "before_cursor_execute", see)
    yield seen
    event.remove(database.engine.sync_engine, "before_cursor_execute", see)


async def test_what_this_process_let_in_counts_at_once(database: Database) -> None:
    admission = door(database, 5)
    await asyncio.gather(*[admission.admit(2 * EACH) for _ in range(3)])
    with pytest.raises(Overloaded) as refused:
        await admission.admit(EACH)
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


async def test_to_refuse_takes_no_query(database: Database, queries: list[str]) -> None:
    admission = door(database, 1)
    await admission.admit(2 * EACH)
    queries.clear()
    for _ in range(50):
        with pytest.raises(Overloaded):
            await admission.admit(EACH)
    assert queries == []


async def test_what_other_processes_let_in_counts_after_a_look(
    database: Database, jobs: Jobs, tenant_id: UUID, clock: Clock
) -> None:
    admission = door(database, 3)
    await admission.admit(EACH)
    await jobs.submit(tenant_id, ask(n=10))

    async def admit_again() -> None:
        clock.advance(0.6)  # older than half a second
        await admission.admit(EACH)  # has it look
        await looked(admission)
        await admission.admit(EACH)

    with pytest.raises(Overloaded, match=r"accepted; try again later"):
        await admit_again()


async def test_what_postgres_has_not_taken_yet_counts_however_often_one_looks(
    database: Database, clock: Clock
) -> None:
    admission = door(database, 3)
    await admission.admit(4 * EACH)
    for _ in range(2):
        clock.advance(0.6)
        with pytest.raises(Overloaded):
            await admission.admit(EACH)  # has it look
        await looked(admission)
    with pytest.raises(Overloaded):
        await admission.admit(EACH)
    admission.settle(4 * EACH, accepted=False)
    await admission.admit(EACH)


async def test_what_was_accepted_counts_once(
    database: Database, jobs: Jobs, tenant_id: UUID, clock: Clock
) -> None:
    jobs.admission = admission = door(database, 5)
    await jobs.submit(tenant_id, ask(n=4))
    for _ in range(2):
        clock.advance(0.6)
        await admission.check()  # has it look
        await looked(admission)
    await admission.admit(2 * EACH)  # four wait, not eight
    with pytest.raises(Overloaded):
        await admission.admit(EACH)


async def test_retry_after_is_when_the_queue_is_short_enough_again(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    for _ in range(2):
        await claims.register("cpu", 8)
    long = ask(n=10, num_inference_steps=1000)
    for _ in range(2):
        await jobs.submit(tenant_id, long)
    each = PriceList().price(long).device
    with pytest.raises(Overloaded) as refused:
        await Admission(database, [MODEL], max_wait_s=4 * each).admit(EACH)
    # 20 pictures for two workers: ten each, and six of them are too many.
    assert refused.value.retry_after_s is not None
    assert 6 * each <= refused.value.retry_after_s <= 6 * each * 1.25 + 1


async def test_who_was_accepted_before_is_told_so_however_long_the_queue(
    database: Database, jobs: Jobs, tenant_id: UUID
) -> None:
    first = await jobs.submit(tenant_id, ask(n=4), idempotency_key="k")
    jobs.admission = door(database, 1)
    with pytest.raises(Overloaded):
        await jobs.submit(tenant_id, ask(n=4))
    with pytest.raises(Overloaded):
        await jobs.submit(tenant_id, ask(n=4), idempotency_key="another")
    assert (await jobs.submit(tenant_id, ask(n=4), idempotency_key="k")).id == first.id
    with pytest.raises(IdempotencyConflict):
        await jobs.submit(tenant_id, ask(n=3), idempotency_key="k")
    assert len(await jobs.list(tenant_id, limit=10, after=None)) == 1


async def test_prices_are_what_the_replicas_measured(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID, settings: Settings
) -> None:
    cost = CostModel()
    for rows, seconds in ((1, 0.2), (2, 0.2), (4, 0.25), (8, 0.4), (16, 0.8)):
        cost.observe(64 * 64, rows, seconds)
    cost.observe_decode(64 * 64, 0.1)
    await claims.tell_costs({MODEL: cost.profile()}, 8)
    jobs.admission = Admission(database, [MODEL], settings.jobs.max_wait_s)
    guided, plain = [
        await jobs.submit(tenant_id, ask(num_inference_steps=10, guidance_scale=scale))
        for scale in (4.0, 1.0)
    ]
    assert (guided.state, plain.state) == (JobState.QUEUED, JobState.QUEUED)
    # Saturated at 8 rows: 0.05 s a row. Two rows a step with guidance.
    assert guided.images[0].seconds == pytest.approx(10 * 2 * 0.05 + 0.1)
    assert plain.images[0].seconds == pytest.approx(10 * 0.05 + 0.1)
    alone = 10 * 0.2 + 0.1
    for job in (guided, plain):
        begin = (job.images[0].start_by - job.created_at).total_seconds()
        assert begin == pytest.approx((5 - 1) * alone)
