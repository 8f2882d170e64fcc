"""One database a test, one bus, and the doors to the jobs in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from uuid import UUID

import pytest

from serve.database import Database
from serve.events.bus import EventBus
from serve.jobs.lifecycle import Jobs
from serve.jobs.request import JobRequest
from serve.settings import FurtherModelSettings, ModelSettings, Settings
from serve.storage import open_storage
from serve.tables import Tenant
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper

MODEL = "tiny"
LEASE_S = 2.0


@pytest.fixture
def settings(database_url: str, valkey_url: str) -> Settings:
    others = {name: FurtherModelSettings(path="unread") for name in ("second", "elsewhere")}
    return Settings(
        database_url=database_url,
        redis_url=valkey_url,
        model=ModelSettings(name=MODEL),
        models=others,
    )


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
    return Jobs(database, bus, open_storage(settings.storage), settings)


@pytest.fixture
def claims(database: Database, bus: EventBus) -> Claims:
    return Claims(database, bus, [MODEL])


@pytest.fixture
async def reaper(database: Database, bus: EventBus, settings: Settings) -> Reaper:
    """Of short leases; it has reached Postgres for long."""
    worker = settings.worker.model_copy(update={"lease_s": LEASE_S})
    return watching(Reaper(database, bus, settings.model_copy(update={"worker": worker})))


def watching(reaper: Reaper) -> Reaper:
    """The same as if it had run for ever; tests turn the workers' clocks, not the reaper's."""
    reaper._watched_s = lambda: inf  # type: ignore[method-assign]
    return reaper


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
    from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline  # imports torch

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
