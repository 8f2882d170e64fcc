"""The sweeper on real storage of both kinds and a real Postgres."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from pipelines.diffusion.request import LoraScale
from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.models.changes import UploadedLora
from serve.models.repository import delete_lora, write_lora
from serve.pictures.stored_file import LoraKey, PictureKey, StoredFile
from serve.settings import JobSettings
from serve.storage import Storage, StorageUnavailable, open_storage
from serve.tables import Variant
from serve.worker.errors import ForeignStorage
from serve.worker.repository import SWEEPER_LOCK, database_identity, try_lock
from serve.worker.sweeper import OWNER_KEY, Sweeper
from tests.serve.conftest import ask
from tests.serve.storage.s3 import S3, Fault, serve_s3

SETTINGS = JobSettings(orphan_age_s=3600)
OLD, YOUNG = timedelta(hours=2), timedelta(minutes=30)
JOB_AND_PICTURE = "0192f3a4-7d5e-7c11-8f00-3b1c5a9d2e47/0192f3a4-7d60-7a02-9c41-64d08be1f5a3"
FOREIGN = ("notes.txt", "a/b/c", f"{JOB_AND_PICTURE}/1", f"{JOB_AND_PICTURE}/01/original.png")


@dataclass
class Shelf:
    """A storage whose objects can be made older."""

    storage: Storage
    folder: Path | None
    s3: S3

    async def put(self, key: str, age: timedelta) -> None:
        await self.storage.put(key, key.encode(), "image/png")
        then = datetime.now(UTC) - age
        if self.folder is None:
            self.s3.modified[f"pictures/prefix/{key}"] = then
        else:
            os.utime(self.folder / key, (then.timestamp(), then.timestamp()))

    async def keys(self) -> set[str]:
        """All but the sweeper's own."""
        listed = {found.key async for page in self.storage.list() for found in page}
        return listed - {OWNER_KEY}


@pytest.fixture
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> Shelf:
    if request.param == "folder":
        return Shelf(open_storage(tmp_path.as_uri()), tmp_path, s3)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.page = 7
    return Shelf(open_storage("s3://pictures/prefix"), None, s3)


@pytest.fixture
def sweeper(database: Database, shelf: Shelf) -> Sweeper:
    return Sweeper(database, shelf.storage, SETTINGS)


async def name_file(database: Database, key: PictureKey, name: str) -> None:
    file = StoredFile(name, "image/png", 64, 64, 1, "0" * 64, str(key))
    async with database.transaction() as session:
        session.add(Variant(image_id=key.image_id, **asdict(file)))


async def end_job(database: Database, job_id: UUID, state: str) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE jobs SET state = :state WHERE id = :id"), {"state": state, "id": job_id}
        )


@pytest.mark.parametrize("seed", range(3))
async def test_exactly_the_orphans_go(
    shelf: Shelf, sweeper: Sweeper, database: Database, jobs: Jobs, tenant_id: UUID, seed: int
) -> None:
    chance = random.Random(seed)
    stays: set[str] = set()
    goes: set[str] = set()
    for foreign in FOREIGN:
        await shelf.put(foreign, OLD)
        stays.add(foreign)
    for state in ("queued", "running", "succeeded", "failed", "cancelled", "expired", "gone") * 2:
        job = await jobs.submit(tenant_id, ask(n=2))
        images = [image.id for image in job.images] + [uuid4()]
        for image_id in images:
            for attempt in range(1, chance.randrange(2, 4)):
                for name in ("original", "thumbnail"):
                    key = PictureKey(job.id, image_id, attempt, f"{name}.png")
                    age = chance.choice([OLD, YOUNG])
                    named = attempt == 1 and image_id != images[-1] and chance.random() < 0.5
                    if named:
                        await name_file(database, key, name)
                    await shelf.put(str(key), age)
                    safe = age is YOUNG or state in ("queued", "running")
                    (stays if safe or (named and state != "gone") else goes).add(str(key))
        if state == "gone":
            async with database.transaction() as session:
                await session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job.id})
        else:
            await end_job(database, job.id, state)
    assert goes
    assert await sweeper.sweep() == len(goes)
    assert await shelf.keys() == stays
    assert await sweeper.sweep() == 0
    if shelf.folder is not None:
        assert all(any(path.iterdir()) for path in shelf.folder.rglob("*") if path.is_dir())


async def test_a_lost_attempt_stays_until_its_job_has_ended(
    shelf: Shelf, sweeper: Sweeper, database: Database, jobs: Jobs, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask())
    key = str(PictureKey(job.id, job.images[0].id, 1, "original.png"))
    await shelf.put(key, OLD)
    assert await sweeper.sweep() == 0
    await jobs.cancel(tenant_id, job.id)
    assert await sweeper.sweep() == 1
    assert await shelf.keys() == set()


async def test_one_sweeper_at_a_time(shelf: Shelf, sweeper: Sweeper, database: Database) -> None:
    await shelf.put(f"{uuid4()}/{uuid4()}/1/original.png", OLD)
    async with database.transaction() as session:
        assert await try_lock(session, SWEEPER_LOCK)
        assert await sweeper.sweep() == 0
    assert await sweeper.sweep() == 1


async def test_another_databases_pictures_are_not_ours_to_sweep(
    shelf: Shelf, sweeper: Sweeper
) -> None:
    await shelf.put(OWNER_KEY, OLD)
    await shelf.put(f"{uuid4()}/{uuid4()}/1/original.png", OLD)
    with pytest.raises(ForeignStorage, match="delete the object sfumato/owner"):
        await sweeper.sweep()
    assert len(await shelf.keys()) == 1
    await shelf.storage.delete([OWNER_KEY])
    assert await sweeper.sweep() == 1


async def test_old_remains_of_writes_go_too(database: Database, tmp_path: Path, s3: S3) -> None:
    shelf = Shelf(open_storage(tmp_path.as_uri()), tmp_path, s3)
    remains = tmp_path / str(uuid4()) / "original.png#12"
    remains.parent.mkdir()
    remains.write_bytes(b"ha")
    then = (datetime.now(UTC) - OLD).timestamp()
    for path in (remains, remains.parent):
        os.utime(path, (then, then))
    assert await Sweeper(database, shelf.storage, SETTINGS).sweep() == 0
    assert not remains.parent.exists()


async def test_a_failing_sweep_is_survived_and_made_up_for(
    database: Database, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    shelf = Shelf(open_storage("s3://pictures/prefix"), None, s3)
    await shelf.put(f"{uuid4()}/{uuid4()}/1/original.png", OLD)
    s3.fault = Fault(403, "AccessDenied", times=3)
    sweeper = Sweeper(database, shelf.storage, JobSettings(sweep_every_s=0.05, orphan_age_s=3600))
    with pytest.raises(StorageUnavailable):
        await sweeper.sweep()
    sweeping = asyncio.create_task(sweeper.run())
    try:
        async with asyncio.timeout(20):
            while set(s3.objects) != {f"pictures/prefix/{OWNER_KEY}"}:
                assert not sweeping.done()
                await asyncio.sleep(0.05)
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def test_a_sweep_can_be_turned_off(database: Database, shelf: Shelf) -> None:
    async with asyncio.timeout(10):
        await Sweeper(database, shelf.storage, JobSettings(sweep_every_s=0)).run()
    assert await shelf.keys() == set()


async def test_any_account_may_ask_for_the_databases_identity(database: Database) -> None:
    async with database.transaction() as session:
        identity = await database_identity(session)
        name = await session.scalar(text("SELECT current_database()"))
        await session.execute(text("SET LOCAL ROLE pg_checkpoint"))  # may nothing but checkpoint
        assert await database_identity(session) == identity
    assert identity.endswith(f"/{name}")
    assert identity.split("/")[0].isdecimal()


@pytest.mark.parametrize("key", FOREIGN)
def test_other_keys_are_no_pictures(key: str) -> None:
    assert PictureKey.parse(key) is None


def test_a_picture_key_is_read_back() -> None:
    key = PictureKey(uuid4(), uuid4(), 12, "original.png")
    assert PictureKey.parse(str(key)) == key
    assert PictureKey.parse(str(key).upper()) is None


async def test_a_lora_goes_once_no_row_and_no_live_job_names_it(
    shelf: Shelf, sweeper: Sweeper, database: Database, jobs: Jobs, tenant_id: UUID
) -> None:
    named, queued, young, unused = (digit * 64 for digit in "abcd")
    for sha256 in (named, queued, unused):
        await shelf.put(str(LoraKey(sha256)), OLD)
    await shelf.put(str(LoraKey(young)), YOUNG)
    async with database.transaction() as session:
        await write_lora(session, UploadedLora("tiny", "ink", named, 8))
    job = await jobs.submit(tenant_id, ask(loras=(LoraScale("wash"),), lora_files={"wash": queued}))
    assert [await sweeper.sweep() for _ in range(3)] == [0, 1, 0]
    assert await shelf.keys() == {str(LoraKey(each)) for each in (named, queued, young)}

    await jobs.cancel(tenant_id, job.id)
    async with database.transaction() as session:
        await delete_lora(session, "tiny", "ink")
    assert [await sweeper.sweep() for _ in range(2)] == [0, 2]
    assert await shelf.keys() == {str(LoraKey(young))}
