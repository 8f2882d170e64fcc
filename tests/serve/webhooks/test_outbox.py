"""A delivery is committed with its event or not at all, and never stands in a job's way."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from serve.database import Database
from serve.events.event import EventType
from serve.jobs import repository, transitions
from serve.jobs.lifecycle import Jobs
from serve.pictures.stored_file import StoredFile
from serve.tables import Job, JobState, Webhook
from serve.webhooks.subscriptions import Webhooks
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import ask, make_tenant
from tests.serve.webhooks.conftest import TERMINAL, rows

URL = "https://example.com/hook"


async def queued(database: Database) -> list[tuple[str, int]]:
    query = "SELECT type, seq FROM deliveries ORDER BY job_id, seq, webhook_id"
    return [tuple(row) for row in await rows(database, query)]


async def test_every_way_to_end_is_delivered(
    jobs: Jobs,
    claims: Claims,
    reaper: Reaper,
    webhooks: Webhooks,
    database: Database,
    tenant_id: UUID,
) -> None:
    await webhooks.create(tenant_id, URL, TERMINAL)
    worker_id = await claims.register("cpu", 4)
    for _ in range(2):
        await jobs.submit(tenant_id, ask())
    first, second = await claims.claim(worker_id, 4)
    await claims.complete(first, [StoredFile("original", "image/png", 8, 8, 1, "0" * 64, "a")])
    await claims.fail(second, "bad luck")
    cancelled = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, cancelled.id)
    late = await jobs.submit(tenant_id, ask(deadline_s=60.0))
    await rows(
        database, "UPDATE jobs SET deadline_at = 'epoch' WHERE id = :id RETURNING id", id=late.id
    )
    await reaper.reap()

    assert await queued(database) == [
        ("job.succeeded", 4),
        ("job.failed", 3),
        ("job.cancelled", 2),
        ("job.expired", 2),
    ]


async def test_only_what_was_subscribed_to(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID
) -> None:
    await webhooks.create(tenant_id, URL, [EventType.QUEUED])
    await webhooks.create(tenant_id, URL, [EventType.SUCCEEDED])
    await webhooks.create(tenant_id, URL, [EventType.QUEUED, EventType.CANCELLED])
    await webhooks.create(await make_tenant(database, "second"), URL, list(TERMINAL))

    job = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, job.id)

    assert await queued(database) == [("job.queued", 1), ("job.queued", 1), ("job.cancelled", 2)]


async def test_a_rolled_back_event_has_no_delivery(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID
) -> None:
    await webhooks.create(tenant_id, URL, TERMINAL)
    job = await jobs.submit(tenant_id, ask())

    async with database.transaction() as session:
        locked, now = await repository.lock_job(session, job.id)
        await transitions.finish(session, locked, JobState.CANCELLED, now)
        await session.rollback()
    assert await queued(database) == []

    await jobs.cancel(tenant_id, job.id)
    assert await queued(database) == [("job.cancelled", 2)]


async def finish(database: Database, job: Job, reached: asyncio.Event, go: asyncio.Event) -> None:
    async with database.transaction() as session:
        locked, now = await repository.lock_job(session, job.id)
        await transitions.finish(session, locked, JobState.CANCELLED, now)
        reached.set()
        await go.wait()


async def test_a_webhook_deleted_meanwhile_waits_for_the_job(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID
) -> None:
    webhook = await webhooks.create(tenant_id, URL, TERMINAL)
    job = await jobs.submit(tenant_id, ask())
    reached, go = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(finish(database, job, reached, go))
        await reached.wait()
        deleting = group.create_task(webhooks.delete(tenant_id, webhook.id))
        await asyncio.sleep(0.2)
        assert not deleting.done()
        go.set()

    assert (await jobs.get(tenant_id, job.id)).state is JobState.CANCELLED
    assert await queued(database) == []


@pytest.mark.parametrize(
    "change", ["DELETE FROM webhooks", "UPDATE webhooks SET disabled_at = now()"]
)
async def test_a_job_waits_for_a_webhook_that_is_going(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID, change: str
) -> None:
    await webhooks.create(tenant_id, URL, TERMINAL)
    job = await jobs.submit(tenant_id, ask())
    async with asyncio.timeout(20), database.transaction() as session:
        await session.execute(text(change))
        ending = asyncio.create_task(jobs.cancel(tenant_id, job.id))
        await asyncio.sleep(0.2)
        assert not ending.done()
    await ending

    assert (await jobs.get(tenant_id, job.id)).state is JobState.CANCELLED
    assert await queued(database) == []


async def test_webhooks_that_come_and_go_never_stop_a_job(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID
) -> None:
    async def change(count: int) -> None:
        for _ in range(count):
            webhook: Webhook = await webhooks.create(tenant_id, URL, list(EventType))
            await webhooks.rotate(tenant_id, webhook.id)
            await webhooks.delete(tenant_id, webhook.id)

    async def work(count: int) -> None:
        for _ in range(count):
            job = await jobs.submit(tenant_id, ask())
            await jobs.cancel(tenant_id, job.id)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(change(25))
            group.create_task(work(25))

    [(ended,)] = await rows(database, "SELECT count(*) FROM jobs WHERE state = 'cancelled'")
    assert ended == 50


async def test_a_tenant_that_leaves_takes_its_webhooks_along(
    jobs: Jobs, webhooks: Webhooks, database: Database, tenant_id: UUID
) -> None:
    await webhooks.create(tenant_id, URL, TERMINAL)
    job = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, job.id)

    await rows(database, "DELETE FROM tenants WHERE id = :id RETURNING id", id=tenant_id)

    assert await queued(database) == []
