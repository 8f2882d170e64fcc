"""What Redis did not bring, read from Postgres for all feeds of a process at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from uuid import UUID

import structlog

from serve.database import Database
from serve.events.bus import EventBus
from serve.events.feed import Feed
from serve.events.replay import MOST_JOBS, lower
from serve.events.repository import events_beyond, new_jobs
from serve.supervise import Loop, Turned

log = structlog.get_logger(__name__)

EVERY_S = 2.0
WITHOUT_REDIS_EVERY_S = 0.5
COMMIT_S = 10.0
"""What a job's first transaction takes at most from its id to its commit."""
MOST_BACK_S = 40.0
_FEEDS_A_TURN = 100


class CatchUp:
    """One round every two seconds, or twice a second while Redis is away, however many feeds.

    A round offers each feed what lies beyond its cursors, as hints like those of Redis: the feed
    still decides what it tells. It runs only while there are feeds.
    """

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus
        self._feeds: set[Feed] = set()
        self._discovered_at = monotonic()
        self._running: Loop | None = None

    @asynccontextmanager
    async def joined(self, feed: Feed) -> AsyncIterator[None]:
        """Keep the feed up to date meanwhile."""
        self._feeds.add(feed)
        if self._running is None:
            self._discovered_at = monotonic()
            self._running = Loop("catch-up", self._run)
        try:
            yield
        finally:
            self._feeds.discard(feed)
            if not self._feeds and self._running is not None:
                running, self._running = self._running, None
                await running.stop()

    @property
    def loops(self) -> list[Loop]:
        """What runs in the background now."""
        return [self._running] if self._running else []

    async def round(self) -> None:
        """Read what each feed lacks, and offer it.

        Raises:
            DatabaseUnavailable: when Postgres does not answer.
        """
        feeds = list(self._feeds)
        async with self._database.transaction() as session:
            began = monotonic()
            tenants = list({feed.tenant_id for feed in feeds if feed.watching_all})
            if tenants:
                within_s = min(began - self._discovered_at + COMMIT_S, MOST_BACK_S)
                new: dict[UUID, list[UUID]] = {tenant_id: [] for tenant_id in tenants}
                for tenant_id, job_id in await new_jobs(session, tenants, within_s, MOST_JOBS):
                    new[tenant_id].append(job_id)
                for feed in feeds:
                    if feed.watching_all:
                        feed.discover(new[feed.tenant_id])
            self._discovered_at = began
            events = await events_beyond(session, await _lowest(feeds))
        if not events:
            return
        by_tenant: dict[UUID, list[Feed]] = {}
        for feed in feeds:
            by_tenant.setdefault(feed.tenant_id, []).append(feed)
        for event in events:
            for feed in by_tenant[event.tenant_id]:
                try:
                    feed.offer(event)
                except Exception:  # it alone, of this tenant alone
                    log.exception("catch_up.event_failed", job_id=str(event.job_id), seq=event.seq)

    async def _run(self, turned: Turned) -> None:
        while True:
            await asyncio.sleep(EVERY_S if self._bus.listening else WITHOUT_REDIS_EVERY_S)
            await self.round()
            turned()


async def _lowest(feeds: list[Feed]) -> dict[UUID, dict[UUID, int]]:
    """By tenant and job, the lowest cursor of all feeds."""
    lowest: dict[UUID, dict[UUID, int]] = {}
    for number, feed in enumerate(feeds):
        lower(lowest.setdefault(feed.tenant_id, {}), feed.cursors)
        if number % _FEEDS_A_TURN == _FEEDS_A_TURN - 1:
            await asyncio.sleep(0)  # let others have a turn: there may be thousands
    return lowest
