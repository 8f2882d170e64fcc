"""What is remembered of tenants' limits, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text

from serve.access import remembered
from serve.access.keys import Keys
from serve.access.remembered import FRESH_S
from serve.access.tenants import TenantLimits
from serve.database import Database, DatabaseUnavailable
from serve.settings import LimitSettings
from tests.serve.clock import Clock

DEFAULTS = LimitSettings(requests_per_minute=60, gpu_seconds_per_month=9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(remembered, "monotonic", clock)
    return clock


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def tenant_id(database: Database) -> UUID:
    return (await Keys(database).create("first", "a key"))[1].tenant_id


async def change(database: Database, requests_per_minute: int | None) -> None:
    statement = text("UPDATE tenants SET requests_per_minute = :value")
    async with database.transaction() as session:
        await session.execute(statement, {"value": requests_per_minute})


async def test_its_own_before_the_settings(database: Database, tenant_id: UUID) -> None:
    await change(database, 0)

    assert await TenantLimits(database, DEFAULTS).of(tenant_id) == LimitSettings(
        requests_per_minute=0, gpu_seconds_per_month=9
    )


async def test_a_change_elsewhere_holds_in_time_and_one_here_at_once(
    database: Database, tenant_id: UUID, clock: Clock
) -> None:
    cache = TenantLimits(database, DEFAULTS)

    async def now() -> float:
        return (await cache.of(tenant_id)).requests_per_minute

    assert await now() == 60
    await change(database, 7)
    assert await now() == 60
    clock.advance(0.6 * FRESH_S)
    assert await now() == 60, "read in the background"
    await asyncio.gather(*cache._reading.values())
    assert await now() == 7
    await change(database, 8)
    clock.advance(1.1 * FRESH_S)
    assert await now() == 8
    await change(database, 9)
    cache.forget(tenant_id)
    assert await now() == 9


async def test_while_postgres_is_away_the_old_ones_hold(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    cache = TenantLimits(database, DEFAULTS)
    known = await cache.of(tenant_id)
    nowhere = Database("postgresql://127.0.0.1:1/nowhere")
    monkeypatch.setattr(cache, "_database", nowhere)
    clock.advance(1.1 * FRESH_S)

    assert await cache.of(tenant_id) == known
    with pytest.raises(DatabaseUnavailable):
        await cache.of(UUID(int=0))
    await nowhere.close()
