"""Whom the reaper takes for silent: only who could have been heard."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from serve.database import Database, DatabaseUnavailable
from serve.events.bus import EventBus
from serve.settings import DEFAULT_POOL, Settings
from serve.worker import repository
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from serve.worker.repository import REAPER_LOCK, try_lock
from tests.serve.jobs.test_lifecycle import age_worker, worker
from tests.serve.test_database_faults import behind_proxy

LEASE_S = 2.0


@pytest.fixture
def short(settings: Settings) -> Settings:
    leases = settings.worker.model_copy(update={"lease_s": LEASE_S})
    return settings.model_copy(update={"worker": leases})


async def reap_until_none_is_left(reaper: Reaper, database: Database) -> None:
    """Rounds as it makes them; on a slow machine gaps between them may begin its watch anew."""
    async with asyncio.timeout(60):
        while await workers(database):
            await reaper.reap()
            await asyncio.sleep(0.1)


async def silent_workers(database: Database, claims: Claims, count: int = 3) -> None:
    for _ in range(count):
        await age_worker(database, await worker(claims), 60)


async def workers(database: Database) -> int:
    async with database.transaction() as session:
        ids, _ = await repository.claiming_workers(session, DEFAULT_POOL)
    return len(ids)


async def test_a_reaper_that_has_just_started_gives_everybody_a_lease(
    database: Database, bus: EventBus, claims: Claims, short: Settings
) -> None:
    await silent_workers(database, claims)
    reaper = Reaper(database, bus, short)
    await reaper.reap()
    assert await workers(database) == 3
    began = monotonic()
    await reap_until_none_is_left(reaper, database)
    assert monotonic() - began > LEASE_S / 2


async def test_after_an_outage_that_it_saw_everybody_has_a_lease_to_be_heard_again(
    database: Database, database_url: str, bus: EventBus, claims: Claims, short: Settings
) -> None:
    """However long Postgres itself has been up: a promoted standby has run for weeks."""
    async with behind_proxy(database_url) as (proxy, proxied):
        reaper = Reaper(proxied, bus, short)
        await silent_workers(database, claims)
        await reap_until_none_is_left(reaper, database)
        await silent_workers(database, claims)
        proxy.freeze()
        with pytest.raises(DatabaseUnavailable):
            await reaper.reap()
        await reaper.reap()
        assert await workers(database) == 3
        await reap_until_none_is_left(reaper, database)


async def test_a_gap_between_rounds_counts_as_an_outage(
    database: Database, bus: EventBus, claims: Claims, short: Settings
) -> None:
    """As where the process was stopped, and all others of the machine with it."""
    reaper = Reaper(database, bus, short)
    await silent_workers(database, claims)
    await reap_until_none_is_left(reaper, database)
    await silent_workers(database, claims)
    await asyncio.sleep(0.6 * LEASE_S)
    await reaper.reap()
    assert await workers(database) == 3


async def test_one_that_waits_for_its_turn_watches_as_well(
    database: Database, bus: EventBus, claims: Claims, short: Settings
) -> None:
    reaper = Reaper(database, bus, short)
    async with database.transaction() as session:
        assert await try_lock(session, REAPER_LOCK)
        assert await reaper.reap() == 0
        await silent_workers(database, claims)
        async with asyncio.timeout(60):
            while monotonic() - reaper._watching_since < LEASE_S:
                await reaper.reap()
                await asyncio.sleep(0.05)
        assert await workers(database) == 3
    await reaper.reap()
    assert await workers(database) == 0
