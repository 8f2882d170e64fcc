"""The feeds of one process: each is what one client has not seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from serve.database import Database
from serve.events.bus import EventBus
from serve.events.catch_up import CatchUp
from serve.events.feed import Feed
from serve.events.replay import Replay
from serve.supervise import Loop


class Feeds:
    """Opens feeds on what Redis brings, and on what Postgres keeps."""

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._bus = bus
        self._replay = Replay(database)
        self._catch_up = CatchUp(database, bus)

    @property
    def loops(self) -> list[Loop]:
        """What runs in the background now."""
        return self._catch_up.loops

    @asynccontextmanager
    async def open(self, tenant_id: UUID) -> AsyncIterator[Feed]:
        """The tenant's events, for one client."""
        async with self._bus.subscribe(tenant_id) as subscription:
            feed = Feed(self._replay, subscription, tenant_id)
            async with self._catch_up.joined(feed):
                yield feed
