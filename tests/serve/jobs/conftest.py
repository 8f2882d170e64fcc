"""One database a test, one bus, and the doors to the jobs in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from serve.database import Database
from serve.events import EventBus
from serve.jobs.claims import Claims
from serve.jobs.lifecycle import Jobs
from serve.jobs.reaper import Reaper
from serve.jobs.request import JobRequest
from serve.models import Tenant
from serve.settings import Settings
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline

MODEL = "tiny"
LEASE_S = 2.0


@pytest.fixture
def settings(database_url: str, valkey_url: str) -> Settings:
    return Settings(database_url=database_url, redis_url=valkey_url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def bus(valkey_url: str) -> AsyncIterator[EventBus]:
    bus = EventBus(valkey_url)
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
def jobs(database: Database, bus: EventBus, settings: Settings) -> Jobs:
    return Jobs(database, bus, settings)


@pytest.fixture
def claims(database: Database, bus: EventBus) -> Claims:
    return Claims(database, bus, [MODEL])


@pytest.fixture
async def reaper(database: Database, bus: EventBus, settings: Settings) -> Reaper:
    """Of short leases; Postgres has been up for one."""
    worker = settings.worker.model_copy(update={"lease_s": LEASE_S})
    while await uptime(database) < LEASE_S:
        await asyncio.sleep(0.1)
    return Reaper(database, bus, settings.model_copy(update={"worker": worker}))


async def uptime(database: Database) -> float:
    """Seconds since Postgres started."""
    async with database.transaction() as session:
        seconds = text("SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8")
        up: float = (await session.scalars(seconds)).one()
        return up


@pytest.fixture
async def tenant_id(database: Database) -> UUID:
    return await make_tenant(database, "first")


async def make_tenant(database: Database, name: str) -> UUID:
    async with database.transaction() as session:
        tenant = Tenant(name=name)
        session.add(tenant)
        await session.flush()
        return tenant.id


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_pipeline().save_pretrained(folder)
    return folder


def ask(**changes: object) -> JobRequest:
    """A small request; ``changes`` replace fields."""
    fields: dict[str, object] = {
        "model": MODEL,
        "prompt": "red heart",
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
    }
    return JobRequest(**{**fields, **changes})  # type: ignore[arg-type]
