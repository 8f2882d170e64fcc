"""Postgres goes away and comes back; nothing is lost and nobody gives up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.database import Database, DatabaseUnavailable
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.local.postgres import LocalPostgres
from serve.migrations.upgrade import upgrade
from serve.settings import ModelSettings, Settings, WebhookSettings
from serve.storage import open_storage
from serve.supervise import Loop
from serve.tables import JobState
from serve.webhooks.courier import Courier
from serve.webhooks.subscriptions import Webhooks
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask, make_tenant
from tests.serve.webhooks.receiver import Receiver, receiving
from tests.serve.worker.test_worker import Shelf, Workshop


@pytest.fixture
def folder() -> Iterator[Path]:
    name = Path(tempfile.mkdtemp(prefix="sfumato-outage-", dir="/tmp"))
    name.chmod(0o755)
    yield name
    shutil.rmtree(name)


async def test_a_worker_outlives_its_database(
    folder: Path, valkey_url: str, bus: EventBus, model_folder: Path
) -> None:
    with LocalPostgres(folder) as postgres:
        await upgrade(postgres.url)
        database = Database(postgres.url)
        settings = Settings(
            database_url=postgres.url, redis_url=valkey_url, model=ModelSettings(name=MODEL)
        )
        jobs = Jobs(database, bus, open_storage(settings.storage), settings)
        tenant_id = await make_tenant(database, "first")
        reaping = Loop("reaper", Reaper(database, bus, settings).run)
        to_loopback = WebhookSettings(allow_private=True, poll_s=0.2)
        delivering = Loop("courier", Courier(database, to_loopback).run)
        workshop = Workshop(
            Claims(database, bus, [MODEL]), bus, model_folder, Shelf(open_storage(folder.as_uri()))
        )
        async with receiving(Receiver()) as receiver, workshop.worker():
            await Webhooks(database, to_loopback).create(
                tenant_id, receiver.address, [EventType.SUCCEEDED]
            )
            job = await jobs.submit(tenant_id, ask(n=4, num_inference_steps=100))
            postgres.stop()
            with pytest.raises(DatabaseUnavailable):
                await jobs.get(tenant_id, job.id)
            await asyncio.sleep(2)  # long enough for a picture to want its commit
            postgres.start()
            async with asyncio.timeout(60):
                while (done := await jobs.get(tenant_id, job.id)).state is not JobState.SUCCEEDED:
                    await asyncio.sleep(0.2)
            await receiver.hears(1)
        assert [len(image.variants) for image in done.images] == [2] * 4
        assert str(job.id) in receiver.heard[0]["body"]
        for running in (reaping, delivering):
            assert not running.task.done()
            await running.stop()
        await database.close()
