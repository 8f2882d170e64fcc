"""Rows of another version's, beside real workers: one that cannot be read is passed by alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from pipelines.diffusion.request import LoraScale, NoiseScheduler
from serve.database import Database
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.jobs.price import PriceList
from serve.jobs.request import ControlNetUse, JobRequest, UnreadableRequest
from serve.storage import Storage, open_storage
from serve.tables import CostProfile, Job, JobState
from serve.worker import claims as claims_module
from serve.worker.claims import UNREADABLE, Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask, make_tenant
from tests.serve.worker.test_worker import LONG, Shelf, Workshop, until_running

# As the versions before wrote them: with the tables, with streams, with sources, with adapters.
FIRST = {
    "model": MODEL,
    "prompt": "red heart",
    "negative_prompt": "",
    "n": 1,
    "width": 64,
    "height": 64,
    "num_inference_steps": 4,
    "guidance_scale": 4.0,
    "seed": 7,
    "scheduler": "ddim",
    "output_format": "png",
    "output_compression": None,
    "priority": 0,
    "deadline_s": None,
}
STREAMED = FIRST | {"partial_images": 2}
FROM_SOURCE = STREAMED | {"image": "a" * 64, "strength": 0.5}
ADAPTED = STREAMED | {
    "control_image": "b" * 64,
    "control": {"name": "edges", "scale": 0.5, "start": 0.0, "end": 0.8},
    "loras": [{"name": "ink", "scale": 0.7}],
    "clip_skip": 1,
}

NEWER: list[dict[str, Any]] = [
    {"regions": [{"prompt": "sky"}]},
    {"scheduler": "a-newer-one"},
    {"loras": [{"name": "ink", "scale": 1.0, "layers": ["up"]}]},
    {"control": {"name": "edges", "weights": [1, 2]}},
    {"loras": "ink"},
    {"lora_files": "ink"},
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path.as_uri())


@pytest.fixture
def workshop(claims: Claims, bus: EventBus, model_folder: Path, storage: Storage) -> Workshop:
    return Workshop(claims, bus, model_folder, Shelf(storage), storage)


async def run(database: Database, statement: str, **values: object) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement), values)


async def rewrite(database: Database, job_id: UUID, **params: object) -> None:
    """The job's parameters, as another version wrote them."""
    await run(
        database,
        "UPDATE jobs SET params = params || CAST(:params AS jsonb) WHERE id = :id",
        params=json.dumps(params),
        id=job_id,
    )


async def submit_newer(jobs: Jobs, database: Database, tenant_id: UUID, **changes: object) -> Job:
    job = await jobs.submit(tenant_id, ask(**changes))
    await rewrite(database, job.id, regions=[])
    return job


@pytest.mark.parametrize("params", [FIRST, STREAMED, FROM_SOURCE, ADAPTED])
def test_requests_of_earlier_versions_are_read(params: dict[str, Any]) -> None:
    request = JobRequest.from_params(params)
    assert request.scheduler is NoiseScheduler.DDIM
    assert request.strength == params.get("strength")
    assert request.loras == ((LoraScale("ink", 0.7),) if "loras" in params else ())
    edges = ControlNetUse("edges", 0.5, 0.0, 0.8)
    assert request.control == (edges if "control" in params else None)


@pytest.mark.parametrize("newer", NEWER)
def test_what_a_newer_version_asks_for_is_not_left_out(newer: dict[str, Any]) -> None:
    """It would be another picture."""
    with pytest.raises(UnreadableRequest):
        JobRequest.from_params(FIRST | newer)
    without_prompt = {name: value for name, value in FIRST.items() if name != "prompt"}
    with pytest.raises(UnreadableRequest, match="prompt"):
        JobRequest.from_params(without_prompt)


@pytest.mark.parametrize("newer", NEWER)
async def test_a_worker_passes_by_what_it_cannot_read_and_draws_the_rest(
    workshop: Workshop,
    jobs: Jobs,
    database: Database,
    tenant_id: UUID,
    newer: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job of several pictures that comes first; its own tenant's other jobs, and others'."""
    monkeypatch.setattr(claims_module, "UNREADABLE_FOR_S", 0.5)
    other = await make_tenant(database, "other")
    unread = await jobs.submit(tenant_id, ask(n=2, priority=5))
    await rewrite(database, unread.id, **newer)
    others = [await jobs.submit(tenant, ask()) for tenant in (tenant_id, other)]
    async with workshop.worker() as (_, _runner, task):
        ended = [await jobs.wait(job.tenant_id, job.id, 30) for job in others]
        assert {job.state for job in ended} == {JobState.SUCCEEDED}
        assert not task.done()
        waiting = await jobs.get(tenant_id, unread.id)
        assert waiting.state is JobState.QUEUED
        assert [(image.attempt, image.crashes) for image in waiting.images] == [(0, 0)] * 2
        # A newer worker would read it; here it is made readable instead.
        await run(
            database,
            "UPDATE jobs SET params = CAST(:params AS jsonb) WHERE id = :id",
            params=json.dumps(FIRST),
            id=unread.id,
        )
        done = await jobs.wait(tenant_id, unread.id, 30)
    assert done.state is JobState.SUCCEEDED
    assert [image.attempt for image in done.images] == [1, 1]


async def test_many_that_cannot_be_read_hide_nobody_behind_them(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    """More than a claim looks at of one tenant, and more tenants than it has turns for."""
    tenants = [tenant_id, *[await make_tenant(database, f"tenant {i}") for i in range(4)]]
    for tenant in tenants:
        for _ in range(20 if tenant == tenant_id else 2):
            await submit_newer(jobs, database, tenant, priority=9)
    readable = [await jobs.submit(tenant, ask()) for tenant in (tenants[0], tenants[-1])]
    worker_id = await claims.register("cpu", 1)
    claimed = []
    for _ in range(6):
        claimed += await claims.claim(worker_id, 1)
    assert sorted(claim.job_id for claim in claimed) == sorted(job.id for job in readable)
    assert await claims.excess(worker_id, 2) == 0, "nothing of what is left is for such workers"


async def test_a_worker_that_reads_it_takes_what_another_passed_by(
    jobs: Jobs, claims: Claims, database: Database, bus: EventBus, tenant_id: UUID
) -> None:
    unread = await submit_newer(jobs, database, tenant_id)
    old = await claims.register("cpu", 4)
    assert await claims.claim(old, 4) == []
    await run(database, "UPDATE jobs SET params = params - 'regions'")
    newer = Claims(database, bus, [MODEL])
    (claim,) = await newer.claim(await newer.register("cpu", 4), 4)
    assert (claim.job_id, claim.attempt, claim.alone) == (unread.id, 1, False)


async def test_a_job_that_no_worker_could_read_in_time_fails_with_the_reason(
    jobs: Jobs,
    claims: Claims,
    database: Database,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims_module, "UNREADABLE_FOR_S", 0.0)
    job = await submit_newer(jobs, database, tenant_id, n=2)
    worker_id = await claims.register("cpu", 4)

    async def wait(seconds: float) -> Job:
        await run(
            database,
            "UPDATE images SET queued_at = queued_at - make_interval(secs => :seconds)",
            seconds=seconds,
        )
        await claims.claim(worker_id, 1)
        return await jobs.get(tenant_id, job.id)

    assert (await wait(0)).state is JobState.QUEUED
    assert (await wait(800)).state is JobState.QUEUED
    # A newer worker is at it: its other pictures wait for that one.
    await run(
        database,
        "UPDATE images SET state = 'running', worker_id = uuidv7() WHERE job_id = :id AND index=0",
        id=job.id,
    )
    assert (await wait(200)).state is JobState.QUEUED
    await run(database, "UPDATE images SET state = 'queued', worker_id = NULL")
    failed = await wait(0)
    assert failed.state is JobState.FAILED
    assert failed.error_code == UNREADABLE
    assert failed.error is not None
    assert "`regions`" in failed.error
    assert {image.state for image in failed.images} == {JobState.CANCELLED}
    async with jobs.feeds.open(tenant_id) as feed:
        await feed.watch(job.id)
        told = [await feed.next(5), await feed.next(5)]
    assert [event and event.type for event in told] == [EventType.QUEUED, EventType.FAILED]


async def test_what_becomes_unreadable_while_it_is_drawn_is_handed_back_uncharged(
    workshop: Workshop, jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    async with workshop.worker() as (_, runner, task):
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)
        await rewrite(database, job.id, regions=[])
        async with asyncio.timeout(20):
            while (await jobs.get(tenant_id, job.id)).images[0].state is not JobState.QUEUED:
                await asyncio.sleep(0.1)
            while runner.stats().active:
                await asyncio.sleep(0.1)
        other = await jobs.submit(tenant_id, ask())
        assert (await jobs.wait(tenant_id, other.id, 30)).state is JobState.SUCCEEDED
        assert not task.done()
    (image,) = (await jobs.get(tenant_id, job.id)).images
    assert (image.attempt, image.crashes) == (1, 0)


async def test_parameters_that_make_no_request_fail_their_picture_alone(
    workshop: Workshop, jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    """Known names, with values that this version cannot use."""
    broken = await jobs.submit(tenant_id, ask())
    await rewrite(database, broken.id, seed="seven")
    other = await jobs.submit(tenant_id, ask())
    async with workshop.worker() as (_, _runner, task):
        assert (await jobs.wait(tenant_id, other.id, 30)).state is JobState.SUCCEEDED
        failed = await jobs.wait(tenant_id, broken.id, 30)
        assert not task.done()
    assert failed.state is JobState.FAILED
    assert failed.error == "The picture's parameters could not be used: TypeError."


@pytest.mark.parametrize("stats", [{"active": "many", "waiting": None}, {"rows": 3}, {}])
async def test_workers_of_another_version_tell_other_things(
    claims: Claims, database: Database, stats: dict[str, Any]
) -> None:
    """Whoever looks for room with them finds what they said, or takes them for free."""
    here = await claims.register("cpu", 4)
    await claims.register("cpu", 3)
    told = json.dumps(stats)
    await run(database, "UPDATE workers SET stats = CAST(:told AS jsonb)", told=told)
    assert await claims.excess(here, 2) == 2


def test_a_profile_of_another_version_is_a_guess_and_spoils_no_other_price() -> None:
    newer = {"guided_rows": 2, "curves": {}}
    older = {"guided_rows": 2, "encode": [], "denoise": [[4096, 1, 0.25]], "decode": []}
    prices = PriceList(
        [
            CostProfile(model="newer", profile=newer, max_batch=4),
            CostProfile(model=MODEL, profile=older, max_batch=1),
        ]
    )
    assert prices.price(ask(guidance_scale=1.0)).alone == pytest.approx(4 * 0.25)
    guess = PriceList().price(ask(model="newer"))
    assert prices.price(ask(model="newer")).alone == guess.alone
    assert "newer" in prices, "a replica has drawn with it"


async def test_a_row_that_cannot_be_changed_keeps_the_reaper_from_no_other(
    jobs: Jobs, claims: Claims, database: Database, reaper: Reaper, tenant_id: UUID
) -> None:
    """A newer version's constraint, say."""
    first, second = [await jobs.submit(tenant_id, ask()) for _ in range(2)]
    late = await jobs.submit(tenant_id, ask(deadline_s=0.01, model="elsewhere"))
    worker_id = await claims.register("cpu", 8)
    assert len(await claims.claim(worker_id, 8)) == 2
    await claims.leave(worker_id)
    forbidden = f"CHECK (job_id <> '{first.id}' OR crashes = 0)"
    await run(database, f"ALTER TABLE images ADD CONSTRAINT newer {forbidden}")
    await reaper.reap()
    states = [(await jobs.get(tenant_id, job.id)).images[0].state for job in (first, second, late)]
    assert states == [JobState.RUNNING, JobState.QUEUED, JobState.EXPIRED]


async def append(database: Database, job_id: UUID, event_type: str, data: object) -> None:
    """An event that a newer version told."""
    await run(
        database,
        """
        WITH job AS (UPDATE jobs SET last_seq = last_seq + 1 WHERE id = :id RETURNING *)
        INSERT INTO events (job_id, seq, type, data)
        SELECT id, last_seq, :type, CAST(:data AS jsonb) FROM job
        """,
        id=job_id,
        type=event_type,
        data=json.dumps(data),
    )


async def test_events_of_a_newer_version_are_told_as_they_are_to_whom_they_concern(
    jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    """By replay and by the catch-up of all tenants; numbers stay without gaps."""
    other = await make_tenant(database, "other")
    mine, theirs = await jobs.submit(tenant_id, ask()), await jobs.submit(other, ask())
    await append(database, mine.id, "job.paused", {"until": 2**70, "image_id": [1]})
    await append(database, mine.id, "job.paused", ["not", "an", "object"])
    async with jobs.feeds.open(tenant_id) as feed, jobs.feeds.open(other) as neighbour:
        await asyncio.gather(feed.watch(mine.id), neighbour.watch(theirs.id))
        await append(database, mine.id, "image.upscaled", {"image_id": {"id": 1}})
        await jobs.cancel(tenant_id, mine.id)
        await jobs.cancel(other, theirs.id)
        told = [await feed.next(10) for _ in range(5)]
        assert [await neighbour.next(10) for _ in range(2)][-1] is not None
    types = ["job.queued", "job.paused", "job.paused", "image.upscaled", "job.cancelled"]
    events = [event for event in told if event is not None]
    assert [event.type for event in events] == types
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.type.terminal for event in events] == [False] * 4 + [True]
    assert json.loads(events[1].text)["data"] == {"until": 2**70, "image_id": [1]}
    at = events[1].created_at.isoformat().replace("+00:00", "Z")
    assert json.loads(events[1].text)["created_at"] == at


async def test_a_feed_that_takes_no_event_keeps_it_from_no_other(
    jobs: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await jobs.submit(tenant_id, ask())
    await jobs.cancel(tenant_id, job.id)

    def raises(_: object) -> None:
        raise ValueError("This event is not for me.")

    async with jobs.feeds.open(tenant_id) as broken, jobs.feeds.open(tenant_id) as sound:
        monkeypatch.setattr(broken, "offer", raises)
        for feed in (broken, sound):
            feed._subscription.jobs = None
            feed.cursors[job.id] = 0
        await jobs.feeds.catch_up()
        told = [sound.ready(), sound.ready()]
    assert [event and event.type for event in told] == [EventType.QUEUED, EventType.CANCELLED]
