"""One stream out of replay and hints, whatever order the hints take."""

from __future__ import annotations

from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.events import Event, EventBus, Subscription
from serve.jobs.claims import Claims
from serve.jobs.feed import Feed
from serve.jobs.lifecycle import Jobs
from serve.jobs.stored_file import StoredFile
from serve.models import Job
from tests.serve.jobs.conftest import ask


async def ended_job(jobs: Jobs, claims: Claims, tenant_id: UUID) -> Job:
    job = await jobs.submit(tenant_id, ask(n=3))
    worker_id = await claims.register("cpu", 8)
    for claim in await claims.claim(worker_id, 8):
        file = StoredFile("original", "image/png", 64, 64, 10, "0" * 64, str(claim.image_id))
        await claims.complete(claim, [file])
    await claims.leave(worker_id)
    return job


async def read(feed: Feed) -> list[Event]:
    seen = []
    while (event := await feed.next(0.02)) is not None:
        seen.append(event)
    return seen


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_hints_lost_doubled_and_out_of_order_make_the_same_stream(
    data: st.DataObject, jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await ended_job(jobs, claims, tenant_id)
    async with jobs.feed(tenant_id) as late:
        await late.watch(job.id)
        stored = await read(late)
    assert [event.seq for event in stored] == [1, 2, 3, 4, 5, 6]

    hints = data.draw(st.lists(st.sampled_from(stored), max_size=12))
    after = data.draw(st.integers(0, 6))
    subscription = Subscription()
    feed = Feed(jobs._database, subscription, tenant_id)
    for hint in hints:
        subscription.offer(hint)
    if data.draw(st.booleans()):
        await feed.watch(job.id, after)
        assert await read(feed) == stored[after:]
    else:
        feed.watch_all()
        assert [event for event in await read(feed) if event.job_id == job.id] == stored


async def test_a_reader_that_stops_reading_is_overrun_but_loses_no_durable_event_silently(
    jobs: Jobs, claims: Claims, tenant_id: UUID, bus: EventBus
) -> None:
    job = await ended_job(jobs, claims, tenant_id)
    async with jobs.feed(tenant_id) as feed:
        await feed.watch(job.id)
        stored = await read(feed)
    subscription = Subscription(limit=2)
    progress = Event(tenant_id, job.id, None, stored[0].type, stored[0].created_at)
    for event in (progress, progress, progress):
        subscription.offer(event)
    assert not subscription.overrun, "progress is dropped without a word"
    subscription.offer(stored[0])
    assert subscription.overrun
