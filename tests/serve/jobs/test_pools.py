"""Two pools on one database: what is queued for one is nothing to the other."""

from __future__ import annotations

from uuid import UUID

import pytest

from serve.database import Database
from serve.events.bus import EventBus
from serve.jobs.admission import Admission
from serve.jobs.backlog import read_backlog
from serve.jobs.errors import Overloaded
from serve.jobs.lifecycle import Jobs
from serve.settings import (
    FurtherModelSettings,
    JobSettings,
    ModelSettings,
    PoolSettings,
    Settings,
)
from serve.storage import open_storage
from serve.worker.claims import Claims
from tests.serve.conftest import ask


@pytest.fixture
def settings(database_url: str, valkey_url: str) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=valkey_url,
        model=ModelSettings(name="tiny"),
        models={"flux": FurtherModelSettings(path="unread")},
        pools={
            "small": PoolSettings(models=("tiny",)),
            "large": PoolSettings(models=("flux",)),
        },
        jobs=JobSettings(max_wait_s=1e-6),
    )


@pytest.fixture
def jobs(database: Database, bus: EventBus, settings: Settings) -> Jobs:
    return Jobs(database, bus, open_storage(settings.storage), settings)


async def test_a_long_queue_refuses_jobs_of_its_own_pool_alone(
    database: Database, settings: Settings, tenant_id: UUID
) -> None:
    admission = Admission(database, settings)
    async with admission.reserve(tenant_id, ask(model="flux", n=4)):
        with pytest.raises(Overloaded, match="for its turn in the pool 'large', and"):
            await admission.precheck(tenant_id, ask(model="flux"))
        await admission.precheck(tenant_id, ask(model="tiny"))


async def test_each_pool_has_its_own_backlog_and_workers(
    database: Database, bus: EventBus, jobs: Jobs, tenant_id: UUID
) -> None:
    small = Claims(database, bus, ["tiny"], pool="small")
    large = Claims(database, bus, ["flux"], pool="large")
    await jobs.submit(tenant_id, ask(model="tiny", n=2))
    await jobs.submit(tenant_id, ask(model="flux", n=3))
    worker_id = await small.register("cpu", 8)
    for _ in range(2):
        await large.register("cuda", 16)
    claimed = await small.claim(worker_id, 8)
    assert {claim.request.model for claim in claimed} == {"tiny"}
    backlogs = [
        await read_backlog(database, "small", ["tiny"]),
        await read_backlog(database, "large", ["flux"]),
    ]
    counts = [(each.queued, each.running, each.workers) for each in backlogs]
    assert counts == [(0, 2, 1), (3, 0, 2)]
    assert await small.claim(worker_id, 8) == []
