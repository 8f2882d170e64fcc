"""What jobs are drawn from: kept, loaded, drawn with, and swept."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from pipelines.imaging.credentials.verify import Verifier
from pipelines.imaging.source import read_source, source_file
from serve.database import Database
from serve.events.bus import EventBus
from serve.jobs.errors import SourceGone
from serve.jobs.lifecycle import Jobs
from serve.jobs.request import ControlNetUse
from serve.pictures.repository import forget_sources, hold_sources, touch_sources
from serve.pictures.sources import Intake
from serve.pictures.stored_file import SourceKey
from serve.settings import DEFAULT_POOL, JobSettings
from serve.storage import ObjectMissing, Storage, open_storage
from serve.tables import Job, JobState
from serve.worker.claims import Claims
from serve.worker.sweeper import Sweeper
from tests.pipelines.imaging.pictures import scene
from tests.serve.conftest import ask, make_tenant
from tests.serve.worker.test_worker import Shelf, Workshop

SCENE = scene(64, 64)
LEFT = np.zeros((64, 64), np.uint8)
LEFT[:, :32] = 255
OLD = timedelta(hours=2)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage((tmp_path / "pictures").as_uri())


@pytest.fixture
def sources(database: Database, storage: Storage) -> Intake:
    return Intake(database, storage, Verifier)


@pytest.fixture
def sweeper(database: Database, storage: Storage) -> Sweeper:
    return Sweeper(database, storage, JobSettings(orphan_age_s=3600))


@pytest.fixture
def workshop(claims: Claims, bus: EventBus, model_folder: Path, storage: Storage) -> Workshop:
    return Workshop(claims, bus, model_folder, Shelf(storage), storage)


async def grow_old(
    database: Database, tmp_path: Path, key: SourceKey, *, row: bool = True, file: bool = True
) -> None:
    then = datetime.now(UTC) - OLD
    if file:
        os.utime(tmp_path / "pictures" / str(key), (then.timestamp(), then.timestamp()))
    if row:
        async with database.transaction() as session:
            await session.execute(
                text("UPDATE sources SET used_at = :then WHERE sha256 = :sha256"),
                {"then": then, "sha256": key.sha256},
            )


async def kept(storage: Storage, key: SourceKey) -> bool:
    try:
        await storage.get(str(key))
    except ObjectMissing:
        return False
    return True


async def drawn(storage: Storage, job: Job) -> NDArray[np.uint8]:
    (image,) = job.images
    key = next(each.storage_key for each in image.variants if each.name == "original")
    return read_source(await storage.get(key))


async def test_what_the_mask_keeps_stays_and_the_rest_is_painted(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, sources: Intake, storage: Storage
) -> None:
    image, mask = await sources.store(tenant_id, source_file(SCENE), source_file(LEFT))
    async with workshop.worker():
        asked = ask(image=image, mask=mask, strength=1.0)
        whole = ask(image=image, strength=0.5)
        edited, varied = [await jobs.submit(tenant_id, each) for each in (asked, whole)]
        edited, varied = [await jobs.wait(tenant_id, job.id, 30) for job in (edited, varied)]

    assert edited.state is JobState.SUCCEEDED, edited.error
    picture = await drawn(storage, edited)
    assert np.array_equal(picture[:, 32:], SCENE[:, 32:])
    assert np.abs(picture[:, :32].astype(int) - SCENE[:, :32]).mean() > 10
    assert varied.state is JobState.SUCCEEDED, varied.error
    assert not np.array_equal(await drawn(storage, varied), SCENE)


async def test_a_strength_shortens_way_and_price(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, sources: Intake
) -> None:
    (image,) = await sources.store(tenant_id, source_file(SCENE))
    half, whole = (
        ask(image=image, strength=0.5, num_inference_steps=40),
        ask(num_inference_steps=40),
    )
    prices = (await jobs.admission.queues[DEFAULT_POOL].read()).prices
    assert prices.price(half).device < 0.6 * prices.price(whole).device
    steps = set()
    async with jobs.feeds.open(tenant_id) as feed:
        job = await jobs.submit(tenant_id, half)
        await feed.watch(job.id)
        async with workshop.worker(), asyncio.timeout(30):
            while (event := await feed.next()) is None or not event.type.terminal:
                steps |= {event.data["steps"]} if event and "steps" in event.data else set()
    assert steps == {20}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "The source picture could not be read: There is no object"),
        (lambda path: path.write_bytes(b"other"), "The file of the source picture was changed"),
    ],
)
async def test_a_lost_source_fails_its_job_and_no_other(
    workshop: Workshop,
    jobs: Jobs,
    tenant_id: UUID,
    sources: Intake,
    tmp_path: Path,
    damage: object,
    reason: str,
) -> None:
    (image,) = await sources.store(tenant_id, source_file(SCENE))
    damage(tmp_path / "pictures" / str(SourceKey(tenant_id, image)))  # type: ignore[operator]
    async with workshop.worker():
        lost = await jobs.submit(tenant_id, ask(image=image, strength=0.5))
        other = await jobs.submit(tenant_id, ask())
        lost = await jobs.wait(tenant_id, lost.id, 60)
        other = await jobs.wait(tenant_id, other.id, 30)
    assert lost.state is JobState.FAILED
    assert lost.error
    assert lost.error.startswith(reason)
    assert other.state is JobState.SUCCEEDED


async def test_exactly_what_no_job_names_is_swept(
    sources: Intake,
    sweeper: Sweeper,
    jobs: Jobs,
    tenant_id: UUID,
    database: Database,
    storage: Storage,
    tmp_path: Path,
) -> None:
    files = [source_file(np.full((64, 64, 3), grey, np.uint8)) for grey in range(6)]
    named, mask, followed, ended, unnamed, again = [
        SourceKey(tenant_id, each) for each in await sources.store(tenant_id, *files)
    ]
    stranger = await make_tenant(database, "second")
    theirs = SourceKey(stranger, (await sources.store(stranger, files[0]))[0])
    control = {"control_image": followed.sha256, "control": ControlNetUse("edges")}
    job = await jobs.submit(
        tenant_id, ask(image=named.sha256, mask=mask.sha256, strength=1.0, **control)
    )
    over = await jobs.submit(tenant_id, ask(image=ended.sha256, strength=1.0))
    await jobs.cancel(tenant_id, over.id)
    for key in (named, mask, followed, ended, unnamed, theirs):
        await grow_old(database, tmp_path, key)
    await grow_old(database, tmp_path, again, row=False)  # the same picture was just sent again

    assert await sweeper.sweep() == 2
    stay = [await kept(storage, key) for key in (named, mask, followed, ended, again)]
    assert all(stay)
    assert not any([await kept(storage, key) for key in (unnamed, theirs)])
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job.id})
    assert await sweeper.sweep() == 3
    assert not await kept(storage, named)
    assert await kept(storage, ended)


async def test_a_row_without_a_file_and_a_file_without_a_row_go(
    sources: Intake,
    sweeper: Sweeper,
    tenant_id: UUID,
    database: Database,
    storage: Storage,
    tmp_path: Path,
) -> None:
    (sha256,) = await sources.store(tenant_id, source_file(SCENE))
    file = SourceKey(tenant_id, sha256)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM sources"))
        await touch_sources(session, [SourceKey(tenant_id, "0" * 64)])
    await grow_old(database, tmp_path, file, row=False)
    await grow_old(database, tmp_path, SourceKey(tenant_id, "0" * 64), file=False)

    assert await sweeper.sweep() == 1
    assert not await kept(storage, file)
    async with database.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM sources"))).scalar_one() == 0


async def test_a_swept_source_is_refused_and_can_be_sent_again(
    sources: Intake,
    sweeper: Sweeper,
    jobs: Jobs,
    tenant_id: UUID,
    database: Database,
    tmp_path: Path,
) -> None:
    (sha256,) = await sources.store(tenant_id, source_file(SCENE))
    await grow_old(database, tmp_path, SourceKey(tenant_id, sha256))
    await sweeper.sweep()
    asked = ask(image=sha256, strength=0.5)
    with pytest.raises(SourceGone):
        await jobs.submit(tenant_id, asked)
    stranger = await make_tenant(database, "second")
    await sources.store(stranger, source_file(SCENE))
    with pytest.raises(SourceGone):
        await jobs.submit(tenant_id, asked)
    await sources.store(tenant_id, source_file(SCENE))
    assert (await jobs.submit(tenant_id, asked)).state is JobState.QUEUED


async def test_a_source_that_is_being_swept_is_waited_for(
    sources: Intake,
    jobs: Jobs,
    tenant_id: UUID,
    database: Database,
    storage: Storage,
    tmp_path: Path,
) -> None:
    """Sent again in the very moment in which its file goes, it is there afterwards."""
    (sha256,) = await sources.store(tenant_id, source_file(SCENE))
    key = SourceKey(tenant_id, sha256)
    await grow_old(database, tmp_path, key)
    async with database.transaction() as session:
        gone = await forget_sources(session, [key], datetime.now(UTC))
        sending = asyncio.create_task(sources.store(tenant_id, source_file(SCENE)))
        naming = asyncio.create_task(jobs.submit(tenant_id, ask(image=sha256, strength=0.5)))
        await asyncio.sleep(0.3)
        assert not sending.done()
        assert not naming.done()
        await storage.delete([str(each) for each in gone])
    await sending
    assert await kept(storage, key)
    refused = await asyncio.gather(naming, return_exceptions=True)
    assert isinstance(refused[0], SourceGone | Job)


async def test_a_job_keeps_its_source_from_a_sweep_that_has_begun(
    sources: Intake, tenant_id: UUID, database: Database, tmp_path: Path
) -> None:
    (sha256,) = await sources.store(tenant_id, source_file(SCENE))
    key = SourceKey(tenant_id, sha256)
    await grow_old(database, tmp_path, key)
    async with database.transaction() as submitting:
        assert await hold_sources(submitting, [key])
        async with database.transaction() as sweeping:
            assert await forget_sources(sweeping, [key], datetime.now(UTC)) == []
