"""The worker while its storage fails: a real disk that fills, and is given room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from serve.events.bus import EventBus
from serve.jobs.lifecycle import Jobs
from serve.storage import open_storage
from serve.tables import JobState
from serve.worker.claims import Claims
from serve.worker.delivery import Delivery
from tests.serve.conftest import ask
from tests.serve.storage.disk import fill, small_disk
from tests.serve.worker.test_delivery import Postprocess, names
from tests.serve.worker.test_worker import SETTINGS, Workshop


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        yield disk


async def test_a_full_disk_fails_its_jobs_until_there_is_room(
    claims: Claims, bus: EventBus, model_folder: Path, jobs: Jobs, tenant_id: UUID, disk: Path
) -> None:
    delivery = Delivery(Postprocess(open_storage(disk.as_uri())), SETTINGS)
    workshop = Workshop(claims, bus, model_folder, delivery)
    async with workshop.worker() as (_, _runner, task):
        ballast = fill(disk)
        job = await jobs.submit(tenant_id, ask())
        failed = await jobs.wait(tenant_id, job.id, 30)
        assert failed.state is JobState.FAILED
        assert failed.error == (
            f"The picture could not be stored: The disk of {disk.as_uri()} is full: make room on "
            "it, or set SFUMATO_STORAGE_URL to another folder."
        )
        assert names(disk) == [ballast.name]
        assert not task.done()
        ballast.unlink()
        job = await jobs.submit(tenant_id, ask())
        assert (await jobs.wait(tenant_id, job.id, 30)).state is JobState.SUCCEEDED
