"""One poll a process, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from uuid import UUID

import pytest
from sqlalchemy import event as sqlalchemy_event

from serve.database import Database
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.settings import Settings
from serve.storage import open_storage
from tests.serve.conftest import ask, make_tenant


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    asked: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    engine = database.engine.sync_engine
    sqlalchemy_event.listen(engine, "before_cursor_execute", note)
    yield asked
    sqlalchemy_event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
async def quiet(database: Database, settings: Settings) -> AsyncIterator[Jobs]:
    """Jobs of a process whose Redis is away."""
    deaf = EventBus("redis://127.0.0.1:1")
    yield Jobs(database, deaf, open_storage(settings.storage), settings)
    await deaf.close()


async def test_a_round_asks_once_for_all_feeds_of_all_tenants(
    quiet: Jobs, database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.feed.CATCH_UP_WITHOUT_REDIS_EVERY_S", 3600)
    tenants = [tenant_id, await make_tenant(database, "second")]
    async with AsyncExitStack() as opened:
        feeds, owned = [], []
        for tenant in tenants:
            job = await quiet.submit(tenant, ask())
            for watch_all in (True, False, False):
                feed = await opened.enter_async_context(quiet.feeds.open(tenant))
                await (feed.watch_all() if watch_all else feed.watch(job.id))
                assert await feed.next(1)
                feeds.append(feed)
                owned.append(job.id)
        late = [await quiet.submit(tenant, ask()) for tenant in tenants]
        for tenant, job_id in zip(tenants, [owned[0], owned[3]], strict=True):
            await quiet.cancel(tenant, job_id)
        with statements(database) as asked:
            await quiet.feeds.catch_up()
        assert len([statement for statement in asked if "SELECT" in statement]) == 2
        for feed, job_id in zip(feeds, owned, strict=True):
            told = []
            while (event := feed.ready()) is not None:
                told.append((event.job_id, event.seq, event.type))
            expected = [(job_id, 2, EventType.CANCELLED)]
            if feed.watching_all:
                new = late[tenants.index(feed.tenant_id)]
                expected.append((new.id, 1, EventType.QUEUED))
            assert sorted(told, key=str) == sorted(expected, key=str)


async def test_without_redis_the_end_of_a_job_is_told(quiet: Jobs, tenant_id: UUID) -> None:
    job = await quiet.submit(tenant_id, ask())
    async with quiet.feeds.open(tenant_id) as feed:
        await feed.watch(job.id)
        await quiet.cancel(tenant_id, job.id)
        seen = [await feed.next(5), await feed.next(5)]
    assert [event and event.type for event in seen] == [EventType.QUEUED, EventType.CANCELLED]


async def test_nothing_is_asked_while_nobody_listens(
    quiet: Jobs, database: Database, tenant_id: UUID
) -> None:
    async with quiet.feeds.open(tenant_id):
        assert quiet.feeds._polling is not None
    assert quiet.feeds._polling is None


async def test_a_database_that_goes_away_ends_no_feed(
    quiet: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.feed.CATCH_UP_WITHOUT_REDIS_EVERY_S", 0.05)
    job = await quiet.submit(tenant_id, ask())
    async with quiet.feeds.open(tenant_id) as feed:
        await feed.watch(job.id)
        assert await feed.next(1)
        working = quiet.feeds._database
        nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
        quiet.feeds._database = nowhere
        assert await feed.next(0.5) is None
        quiet.feeds._database = working
        await nowhere.close()
        await quiet.cancel(tenant_id, job.id)
        event = await feed.next(5)
    assert event is not None
    assert event.type is EventType.CANCELLED
