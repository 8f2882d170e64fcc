"""One stream out of replay and hints, whatever order the hints take."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.database import Database
from serve.events.bus import Subscription
from serve.events.event import Event
from serve.events.feed import Feed, JobNotFound
from serve.jobs.lifecycle import Jobs
from serve.pictures.stored_file import StoredFile
from serve.tables import Job
from serve.worker.claims import Claims
from serve.worker.queue import Claim
from tests.serve.conftest import ask, make_tenant


async def ended_job(jobs: Jobs, claims: Claims, tenant_id: UUID) -> Job:
    job = await jobs.submit(tenant_id, ask(n=3))
    worker_id = await claims.register("cpu", 8)
    for claim in await claims.claim(worker_id, 8):
        file = StoredFile("original", "image/png", 64, 64, 10, "0" * 64, str(claim.image_id))
        await claims.complete(claim, [file])
    await claims.leave(worker_id)
    return job


async def claimed(claims: Claims, job: Job) -> list[Claim]:
    """All the pictures of the job, by a worker that is the only one."""
    worker_id = await claims.register("cpu", 8)
    held = await claims.claim(worker_id, 8)
    await claims.leave(worker_id)
    return [claim for claim in held if claim.job_id == job.id]


async def read(feed: Feed) -> list[Event]:
    seen = []
    while (event := await feed.next(0.02)) is not None:
        seen.append(event)
    return seen


async def stored_events(jobs: Jobs, tenant_id: UUID, job_id: UUID) -> list[Event]:
    async with jobs.feeds.open(tenant_id) as late:
        await late.watch(job_id)
        return await read(late)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_hints_lost_doubled_and_out_of_order_make_the_same_stream(
    data: st.DataObject, jobs: Jobs, claims: Claims, tenant_id: UUID, database: Database
) -> None:
    job = await ended_job(jobs, claims, tenant_id)
    stored = await stored_events(jobs, tenant_id, job.id)
    assert [event.seq for event in stored] == [1, 2, 3, 4, 5, 6]

    hints = st.lists(st.sampled_from(stored), max_size=12)
    after = data.draw(st.integers(0, 6))
    subscription = Subscription()
    feed = Feed(jobs.feeds, subscription, tenant_id)
    for hint in data.draw(hints):
        subscription.offer(hint)
    if data.draw(st.booleans()):
        await feed.watch(job.id, after)
        for hint in data.draw(hints):
            subscription.offer(hint)
        assert await read(feed) == stored[after:]
    else:
        await feed.watch_all()
        for hint in data.draw(hints):
            subscription.offer(hint)
        assert [event for event in await read(feed) if event.job_id == job.id] == stored


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_what_the_poll_and_the_hints_bring_is_one_stream(
    data: st.DataObject, jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    """A job moves while feeds of three kinds follow; each hint comes twice, once or never."""
    async with (
        jobs.feeds.open(tenant_id) as watching,
        jobs.feeds.open(tenant_id) as watching_all,
        jobs.feeds.open(tenant_id) as resuming,
    ):
        feeds = {"watching": watching, "watching_all": watching_all, "resuming": resuming}
        for feed in feeds.values():
            feed._subscription.jobs = set()  # deaf: hints come from below alone
        await watching_all.watch_all()
        job = await jobs.submit(tenant_id, ask(n=3))
        await watching.watch(job.id)
        await resuming.watch(job.id, after=1)
        seen: dict[str, list[Event]] = {name: [] for name in feeds}
        held = await claimed(claims, job)
        for number, claim in enumerate(held):
            file = StoredFile("original", "image/png", 64, 64, 10, "0" * 64, str(claim.image_id))
            await claims.complete(claim, [file])
            stored = await stored_events(jobs, tenant_id, job.id)
            if data.draw(st.booleans()) or number == len(held) - 1:
                await jobs.feeds.catch_up()
            for name, feed in feeds.items():
                for hint in data.draw(st.lists(st.sampled_from(stored), max_size=4)):
                    feed._subscription.offer(hint)
                seen[name] += [event for event in await read(feed) if event.job_id == job.id]
        assert seen["watching"] == stored
        assert seen["watching_all"] == stored
        assert seen["resuming"] == stored[1:]
        assert len(stored) == 6


async def test_a_gap_in_a_live_event_is_read_at_once(
    jobs: Jobs, claims: Claims, tenant_id: UUID, database: Database
) -> None:
    job = await ended_job(jobs, claims, tenant_id)
    stored = await stored_events(jobs, tenant_id, job.id)
    subscription = Subscription()
    feed = Feed(jobs.feeds, subscription, tenant_id)  # nobody polls for it
    subscription.jobs = None
    feed.discover([job.id])
    subscription.offer(stored[3])
    assert await read(feed) == stored


async def test_a_cancelled_wait_loses_nothing(
    jobs: Jobs, claims: Claims, tenant_id: UUID, database: Database
) -> None:
    job = await ended_job(jobs, claims, tenant_id)
    stored = await stored_events(jobs, tenant_id, job.id)
    subscription = Subscription()
    feed = Feed(jobs.feeds, subscription, tenant_id)
    feed.discover([job.id])
    subscription.jobs = {job.id}
    subscription.offer(stored[-1])
    reading = asyncio.create_task(feed.next())
    await asyncio.sleep(0)  # it has taken the hint, and asks Postgres
    assert subscription.pop() is None
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    assert await read(feed) == stored


async def test_unwatched_jobs_stay_silent_while_all_others_are_watched(
    jobs: Jobs, tenant_id: UUID
) -> None:
    async with jobs.feeds.open(tenant_id) as feed:
        await feed.watch_all()
        silent, heard = [await jobs.submit(tenant_id, ask()) for _ in range(2)]
        feed.unwatch(silent.id)
        await read(feed)
        await jobs.cancel(tenant_id, silent.id)
        await jobs.cancel(tenant_id, heard.id)
        await jobs.feeds.catch_up()
        assert {event.job_id for event in await read(feed)} <= {heard.id}


async def test_a_feed_never_sees_another_tenants_event(
    jobs: Jobs, claims: Claims, tenant_id: UUID, database: Database
) -> None:
    other = await make_tenant(database, "second")
    async with jobs.feeds.open(other) as feed, jobs.feeds.open(tenant_id) as owner:
        await feed.watch_all()
        await owner.watch_all()
        job = await ended_job(jobs, claims, tenant_id)
        with pytest.raises(JobNotFound):
            await feed.watch(job.id)
        feed.discover([job.id])  # as if the number of a stranger's job had slipped in
        await jobs.feeds.catch_up()
        assert await read(feed) == []
        assert [event.seq for event in await read(owner)] == [1, 2, 3, 4, 5, 6]
