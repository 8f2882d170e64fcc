"""The door, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text

from pipelines.diffusion.batching.cost import CostModel
from serve.access.rate_limit import RateLimitExceeded
from serve.database import Database
from serve.jobs import repository
from serve.jobs.admission import QueueView, Reservation
from serve.jobs.errors import IdempotencyConflict, Overloaded
from serve.jobs.lifecycle import Jobs
from serve.jobs.price import PriceList
from serve.jobs.repository import QUEUED
from serve.jobs.turns import EDGES_S, PricedJob
from serve.settings import DEFAULT_POOL, Settings
from serve.tables import JobState
from serve.worker.claims import Claims
from tests.serve.clock import Clock
from tests.serve.conftest import MODEL, ask, make_tenant

EACH = PriceList().price(ask()).device
TENANT = UUID(int=1)


def job_of(tenant_id: UUID = TENANT, **changes: object) -> PricedJob:
    request = ask(**changes)
    return PricedJob.of(tenant_id, request, PriceList().price(request))


def door(database: Database, pictures: float) -> QueueView:
    """Closed once so many of ``ask``'s pictures wait."""
    return QueueView(database, [MODEL], max_wait_s=pictures * EACH)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serve.jobs.admission.monotonic", clock)
    return clock


async def add(queue: QueueView, job: PricedJob) -> None:
    """As `Admission.reserve` does."""
    await queue.check(job)
    queue._uncommitted[job] += 1


async def fill(jobs: Jobs, tenant_id: UUID) -> None:
    """Queue as much as is let in, above everything else of the tenant's."""
    while True:
        try:
            await jobs.submit(tenant_id, ask(priority=100))
        except Overloaded:
            return


async def looked(queue: QueueView) -> None:
    """A look that is under way is over."""
    while queue._refreshing:
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
    queue = door(database, 5)
    await asyncio.gather(*[add(queue, job_of(n=2)) for _ in range(3)])
    with pytest.raises(Overloaded) as refused:
        await add(queue, job_of())
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


async def test_to_refuse_takes_no_query(database: Database, queries: list[str]) -> None:
    queue = door(database, 1)
    await add(queue, job_of(n=2))
    queries.clear()
    for _ in range(50):
        with pytest.raises(Overloaded):
            await add(queue, job_of())
    assert queries == []


async def test_what_other_processes_let_in_counts_after_a_look(
    database: Database, jobs: Jobs, tenant_id: UUID, clock: Clock
) -> None:
    queue = door(database, 3)
    await add(queue, job_of(tenant_id))
    await jobs.submit(tenant_id, ask(n=10))

    async def admit_again() -> None:
        clock.advance(0.6)  # older than half a second
        await add(queue, job_of(tenant_id))  # has it look
        await looked(queue)
        await add(queue, job_of(tenant_id))

    with pytest.raises(Overloaded, match=r"accepted; try again later"):
        await admit_again()


async def test_what_postgres_has_not_taken_yet_counts_however_often_one_looks(
    database: Database, clock: Clock
) -> None:
    queue = door(database, 3)
    with queue.counting(Reservation(job_of(n=4))):
        for _ in range(2):
            clock.advance(0.6)
            with pytest.raises(Overloaded):
                await add(queue, job_of())  # has it look
            await looked(queue)
        with pytest.raises(Overloaded):
            await add(queue, job_of())
    await add(queue, job_of())


async def test_what_was_accepted_counts_once(
    database: Database, jobs: Jobs, tenant_id: UUID, clock: Clock
) -> None:
    jobs.admission.queues[DEFAULT_POOL] = queue = door(database, 5)
    await jobs.submit(tenant_id, ask(n=4))
    for _ in range(2):
        clock.advance(0.6)
        await queue.check(job_of(tenant_id))  # has it look
        await looked(queue)
    await add(queue, job_of(tenant_id, n=2))  # four wait, not eight
    with pytest.raises(Overloaded):
        await add(queue, job_of(tenant_id))


async def test_whatever_is_not_accepted_is_given_back(
    database: Database, jobs: Jobs, tenant_id: UUID
) -> None:
    """Of the queue and of the rate, whether the block fails or only does not accept the job."""
    async with database.transaction() as session:
        limit = text("UPDATE tenants SET gpu_seconds_per_minute = :limit")
        await session.execute(limit, {"limit": 1.5 * EACH})
    admission = jobs.admission
    admission.queues[DEFAULT_POOL] = queue = door(database, 1)
    for _ in range(3):
        async with admission.reserve(tenant_id, ask()):
            with pytest.raises(RateLimitExceeded):
                await admission.precheck(tenant_id, ask())
        with pytest.raises(LookupError):
            async with admission.reserve(tenant_id, ask()):
                raise LookupError
    assert not queue._uncommitted
    assert not queue._committed

    async with admission.reserve(tenant_id, ask()) as reservation:
        reservation.accepted = True
    assert queue._committed == {job_of(tenant_id): 1}
    with pytest.raises(RateLimitExceeded):
        await admission.precheck(tenant_id, ask())
    await admission.rates.close()


async def test_retry_after_is_when_the_queue_is_short_enough_again(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    for _ in range(2):
        await claims.register("cpu", 8)
    long = {"n": 10, "num_inference_steps": 1000}
    for _ in range(2):
        await jobs.submit(tenant_id, ask(**long))
    each = PriceList().price(ask(**long)).device
    with pytest.raises(Overloaded) as refused:
        await QueueView(database, [MODEL], max_wait_s=4 * each).check(job_of(tenant_id, **long))
    # 20 pictures for two workers: ten each, and six of them are too many.
    assert refused.value.retry_after_s is not None
    assert 6 * each <= refused.value.retry_after_s <= 6 * each * 1.25 + 1


async def test_a_tenant_that_queues_all_it_may_locks_nobody_else_out(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID, clock: Clock
) -> None:
    """Its own next job is refused; another tenant's is let in, and then drawn next."""
    neighbour = await make_tenant(database, "second")
    worker_id = await claims.register("cpu", 2)
    jobs.admission.queues[DEFAULT_POOL] = queue = door(database, 20)
    await fill(jobs, tenant_id)
    clock.advance(0.6)
    await queue.check(job_of(neighbour))  # has it look
    await looked(queue)
    job = await jobs.submit(neighbour, ask())
    first = await claims.claim(worker_id, 2)
    assert job.id in {claim.job_id for claim in first}
    with pytest.raises(Overloaded, match=r"would wait about \d+ s for its turn"):
        await jobs.submit(tenant_id, ask(priority=100))


async def test_a_job_that_would_be_drawn_next_is_never_refused(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID, clock: Clock
) -> None:
    """However long what is being drawn takes, and whatever the tenant queued behind it."""
    worker_id = await claims.register("cpu", 1)
    await jobs.submit(tenant_id, ask(n=10))
    await claims.claim(worker_id, 10)
    strict = door(database, 0.1)
    await add(strict, job_of(tenant_id))
    with pytest.raises(Overloaded):
        await add(strict, job_of(tenant_id))

    for _ in range(10):
        await jobs.submit(tenant_id, ask(deadline_s=3600))
    strict = door(database, 0.1)
    await strict.check(job_of(tenant_id, deadline_s=600))
    await strict.check(job_of(tenant_id, priority=1, deadline_s=86400))
    with pytest.raises(Overloaded):
        await strict.check(job_of(tenant_id, deadline_s=86400))


async def test_a_tenant_that_has_waited_longest_comes_before_those_with_work(
    database: Database, jobs: Jobs, claims: Claims, tenant_id: UUID, queries: list[str]
) -> None:
    """Nothing of it is queued, so that its turn is asked for; once, until the next look."""
    others = [await make_tenant(database, f"other {number}") for number in range(3)]
    worker_id = await claims.register("cpu", 1)
    for other in others:
        await jobs.submit(other, ask(n=10))
    await claims.claim(worker_id, 3)  # each has had a turn
    strict = door(database, 0.1)
    await strict.check(job_of(tenant_id))
    queries.clear()
    for _ in range(20):
        await strict.check(job_of(tenant_id))
    assert queries == []
    with pytest.raises(Overloaded):
        await strict.check(job_of(others[0]))


async def test_nobody_is_refused_for_a_queue_that_was_drawn_meanwhile(
    database: Database, jobs: Jobs, tenant_id: UUID, clock: Clock
) -> None:
    job = await jobs.submit(tenant_id, ask(n=10))
    queue = door(database, 5)
    with pytest.raises(Overloaded):
        await queue.check(job_of(tenant_id))
    await jobs.cancel(tenant_id, job.id)
    clock.advance(60)
    await queue.check(job_of(tenant_id))


async def test_a_long_queue_is_read_less_often(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = door(database, 5)
    slow = queue._read

    async def read(*told: Any) -> Any:
        clock.advance(0.2)
        return await slow(*told)

    monkeypatch.setattr(queue, "_read", read)
    await queue.read()
    assert queue._snapshot is not None
    assert queue._snapshot.fresh_until == pytest.approx(clock() + 2.0)


async def test_one_index_alone_tells_what_waits(database: Database, tenant_id: UUID) -> None:
    """However many pictures are done: those that wait are found without looking at one."""
    async with database.transaction() as session:
        await session.execute(
            text("""
                INSERT INTO jobs (tenant_id, model, params, n, state)
                SELECT :tenant, 'tiny', '{"prompt": "x"}', 1,
                    CASE WHEN i % 10 = 0 THEN 'queued' ELSE 'succeeded' END
                FROM generate_series(1, 5000) AS i
            """),
            {"tenant": tenant_id},
        )
        await session.execute(
            text("""
                INSERT INTO images (job_id, tenant_id, index, state, model, width, height, seconds)
                SELECT id, tenant_id, 0, state, model, 64, 64, 0.5 FROM jobs
            """)
        )
        waiting = await repository.read_queued(session, [MODEL])
    assert sum(each.count for each in waiting.values()) == 500
    assert sum(each.seconds for each in waiting.values()) == pytest.approx(250)
    async with database.engine.connect() as connection:
        vacuum = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await vacuum.execute(text("VACUUM ANALYZE images"))
        told = {"models": [MODEL], "edges": list(EDGES_S)}
        plan = (await connection.execute(text(f"EXPLAIN {QUEUED.text}"), told)).scalars().all()
    assert any("Index Only Scan using images_to_claim" in line for line in plan), plan


async def test_who_was_accepted_before_is_told_so_however_long_the_queue(
    database: Database, jobs: Jobs, tenant_id: UUID
) -> None:
    first = await jobs.submit(tenant_id, ask(n=4), idempotency_key="k")
    jobs.admission.queues[DEFAULT_POOL] = door(database, 1)
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
    await claims.report_costs({MODEL: cost.profile()}, 8)
    jobs.admission.queues[DEFAULT_POOL] = QueueView(database, [MODEL], settings.jobs.max_wait_s)
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
