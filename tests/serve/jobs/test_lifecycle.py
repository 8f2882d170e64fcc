"""A job's whole life against real Postgres and Valkey, with the invariants of the design."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from pipelines.diffusion.request import EngineStats
from serve.database import Database
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.events.feed import JobNotFound
from serve.jobs.errors import IdempotencyConflict, JobFinished
from serve.jobs.lifecycle import Jobs
from serve.pictures.stored_file import StoredFile
from serve.settings import Settings
from serve.storage import open_storage
from serve.tables import JobState
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask, make_tenant


def files() -> list[StoredFile]:
    return [StoredFile("original", "image/png", 64, 64, 10, "0" * 64, f"k/{uuid4()}")]


async def worker(claims: Claims) -> UUID:
    return await claims.register("cpu", 8)


async def events_of(jobs: Jobs, tenant_id: UUID, job_id: UUID) -> list[tuple[int | None, str]]:
    """All durable events of an ended job, as a client that connects late sees them."""
    seen = []
    async with jobs.feeds.open(tenant_id) as feed:
        await feed.watch(job_id)
        while (event := await feed.next(0.05)) is not None:
            seen.append((event.seq, str(event.type)))
    return seen


async def age_worker(database: Database, worker_id: UUID, seconds: float) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "UPDATE workers SET heartbeat_at = heartbeat_at - :s * interval '1 s' WHERE id = :w"
            ),
            {"s": seconds, "w": worker_id},
        )


async def test_pictures_of_one_job_end_in_one_terminal_event(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask(n=2))
    assert (job.state, len(job.images)) == (JobState.QUEUED, 2)
    w = await worker(claims)
    first, second = await claims.claim(w, 8)
    assert [c.request.sampling(c.index).seed for c in (first, second)] == [7, 8]
    assert await claims.complete(first, files())
    assert (await jobs.get(tenant_id, job.id)).state is JobState.RUNNING
    assert await claims.complete(second, files())
    done = await jobs.get(tenant_id, job.id)
    assert done.state is JobState.SUCCEEDED
    assert done.finished_at is not None
    assert [v.name for image in done.images for v in image.variants] == ["original"] * 2
    assert await events_of(jobs, tenant_id, job.id) == [
        (1, "job.queued"),
        (2, "job.running"),
        (3, "image.succeeded"),
        (4, "image.succeeded"),
        (5, "job.succeeded"),
    ]


async def test_one_replica_claims_the_jobs_of_all_its_models(
    jobs: Jobs, database: Database, bus: EventBus, tenant_id: UUID
) -> None:
    asked = [("second", 0), (MODEL, 0), ("elsewhere", 9), ("second", 5)]
    for model, priority in asked:
        await jobs.submit(tenant_id, ask(model=model, priority=priority))
    claims = Claims(database, bus, [MODEL, "second"])
    order = [(await claims.claim(await worker(claims), 1))[0].request for _ in range(3)]
    assert [(each.model, each.priority) for each in order] == [
        ("second", 5),
        ("second", 0),
        (MODEL, 0),
    ]
    assert await claims.claim(await worker(claims), 8) == []
    assert {each.model for each in await jobs.workers()} == {MODEL}


async def test_a_lost_claim_commits_nothing(
    jobs: Jobs,
    claims: Claims,
    database: Database,
    reaper: Reaper,
    tenant_id: UUID,
) -> None:
    job = await jobs.submit(tenant_id, ask())
    silent = await worker(claims)
    (old,) = await claims.claim(silent, 1)
    await age_worker(database, silent, 60)
    assert await reaper.reap() == 1
    assert not await claims.heartbeat(silent, EngineStats(), draining=False)
    (new,) = await claims.claim(await worker(claims), 1)
    assert (new.image_id, new.attempt) == (old.image_id, old.attempt + 1)
    assert not await claims.complete(old, files())
    assert not await claims.fail(old, "too late")
    assert await claims.complete(new, files())
    done = await jobs.get(tenant_id, job.id)
    assert [len(image.variants) for image in done.images] == [1]


async def test_a_claim_that_was_handed_back_commits_nothing_for_the_next_of_the_same_worker(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    """The worker is the same, the picture runs: only the attempt tells them apart."""
    await jobs.submit(tenant_id, ask())
    same = await worker(claims)
    (old,) = await claims.claim(same, 1)
    assert await claims.hand_back(old)
    (new,) = await claims.claim(same, 1)
    assert (new.image_id, new.attempt) == (old.image_id, old.attempt + 1)
    assert not await claims.complete(old, files())
    assert not await claims.fail(old, "too late")
    assert not await claims.hand_back(old)
    assert await claims.complete(new, files())


async def test_three_crashes_fail_the_job_with_the_reason(
    jobs: Jobs,
    claims: Claims,
    database: Database,
    reaper: Reaper,
    tenant_id: UUID,
) -> None:
    job = await jobs.submit(tenant_id, ask())
    for _ in range(3):
        w = await worker(claims)
        assert len(await claims.claim(w, 8)) == 1
        await age_worker(database, w, 60)
        await reaper.reap()
    failed = await jobs.get(tenant_id, job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "3 times" in failed.error
    assert (await events_of(jobs, tenant_id, job.id))[-1] == (3, "job.failed")
    assert not await claims.claim(await worker(claims), 8)


async def test_after_a_cancel_no_picture_appears(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask(n=2))
    w = await worker(claims)
    (claim,) = await claims.claim(w, 1)
    assert await claims.held(w) == [claim]
    assert (await jobs.cancel(tenant_id, job.id)).state is JobState.CANCELLED
    assert await claims.held(w) == []
    assert not await claims.complete(claim, files())
    again = await jobs.cancel(tenant_id, job.id)
    assert (again.state, again.last_seq) == (JobState.CANCELLED, 3)


async def test_a_finished_job_cannot_be_cancelled(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask())
    (claim,) = await claims.claim(await worker(claims), 1)
    await claims.complete(claim, files())
    with pytest.raises(JobFinished):
        await jobs.cancel(tenant_id, job.id)


async def test_a_failed_picture_ends_the_whole_job(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask(n=3))
    first, second = await claims.claim(await worker(claims), 2)
    assert await claims.fail(first, "NaN in the latents")
    assert not await claims.complete(second, files())
    failed = await jobs.get(tenant_id, job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "NaN in the latents")
    assert [i.state for i in failed.images] == [
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.CANCELLED,
    ]


async def test_handing_back_costs_no_crash(jobs: Jobs, claims: Claims, tenant_id: UUID) -> None:
    job = await jobs.submit(tenant_id, ask())
    w = await worker(claims)
    (claim,) = await claims.claim(w, 1)
    assert await claims.hand_back(claim)
    assert not await claims.hand_back(claim)
    (image,) = (await jobs.get(tenant_id, job.id)).images
    assert (image.state, image.crashes, image.attempt) == (JobState.QUEUED, 0, 1)
    (again,) = await claims.claim(w, 1)
    assert again.attempt == 2


async def test_a_deadline_expires_the_job(
    jobs: Jobs,
    claims: Claims,
    database: Database,
    reaper: Reaper,
    tenant_id: UUID,
) -> None:
    job = await jobs.submit(tenant_id, ask(deadline_s=0.05))
    later = await jobs.submit(tenant_id, ask(deadline_s=600))
    await asyncio.sleep(0.1)
    assert await reaper.reap() == 1
    assert (await jobs.get(tenant_id, job.id)).state is JobState.EXPIRED
    assert (await jobs.get(tenant_id, later.id)).state is JobState.QUEUED


async def test_the_same_idempotency_key_gives_the_same_job(jobs: Jobs, tenant_id: UUID) -> None:
    results = await asyncio.gather(
        *[jobs.submit(tenant_id, ask(), idempotency_key="k") for _ in range(8)]
    )
    assert len({job.id for job in results}) == 1
    with pytest.raises(IdempotencyConflict):
        await jobs.submit(tenant_id, ask(prompt="blue dog"), idempotency_key="k")
    assert len(await jobs.list(tenant_id, limit=10, after=None)) == 1


async def test_a_tenant_sees_nothing_of_another(
    jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask())
    other = await make_tenant(database, "second")
    with pytest.raises(JobNotFound):
        await jobs.get(other, job.id)
    with pytest.raises(JobNotFound):
        await jobs.cancel(other, job.id)
    assert await jobs.list(other, limit=10, after=None) == []
    async with jobs.feeds.open(other) as feed:
        with pytest.raises(JobNotFound):
            await feed.watch(job.id)
        await feed.watch_all()
        await jobs.cancel(tenant_id, job.id)
        assert await feed.next(0.2) is None


async def test_jobs_are_listed_newest_first_page_by_page(jobs: Jobs, tenant_id: UUID) -> None:
    made = [(await jobs.submit(tenant_id, ask(seed=i))).id for i in range(5)]
    page: Sequence[object] = [job.id for job in await jobs.list(tenant_id, limit=3, after=None)]
    assert page == made[:1:-1]
    assert [j.id for j in await jobs.list(tenant_id, limit=3, after=made[2])] == made[1::-1]


async def test_waiting_returns_when_the_job_ends(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask())
    waiting = asyncio.create_task(jobs.wait(tenant_id, job.id, 30))
    (claim,) = await claims.claim(await worker(claims), 1)
    await claims.complete(claim, files())
    assert (await waiting).state is JobState.SUCCEEDED
    other = await jobs.submit(tenant_id, ask())
    assert (await jobs.wait(tenant_id, other.id, 0.1)).state is JobState.QUEUED


async def test_lost_hints_are_read_from_postgres(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID, settings: Settings
) -> None:
    deaf = EventBus("redis://127.0.0.1:1")  # nothing listens there
    quiet = Jobs(database, deaf, open_storage(settings.storage), settings)
    job = await quiet.submit(tenant_id, ask())
    async with quiet.feeds.open(tenant_id) as feed:
        await feed.watch_all()
        await quiet.cancel(tenant_id, job.id)
        seen = [await feed.next(5), await feed.next(5)]
    await deaf.close()
    assert [event and event.type for event in seen] == [EventType.QUEUED, EventType.CANCELLED]
