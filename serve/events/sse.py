"""One job's events as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from uuid import UUID

from fastapi.sse import ServerSentEvent

from serve.access.keys import Keys, Principal
from serve.events.bus import Event
from serve.events.feeds import Feeds
from serve.events.outbox import MESSAGE_COST_BYTES

PROGRESS_BYTES = 128 * 1024
LOOK_EVERY_S = 1.0
CHECK_KEY_EVERY_S = 15.0


class EventStream:
    """Follows a job to its end, or until the server stops or the key is revoked.

    Nobody acknowledges here, so progress has a budget: once ``PROGRESS_BYTES`` are spent, each
    event costing its own bytes and what relays keep beside it, durable events alone are told.
    """

    def __init__(
        self, feeds: Feeds, keys: Keys, stopping: asyncio.Event, caller: Principal
    ) -> None:
        self._feeds = feeds
        self._keys = keys
        self._stopping = stopping
        self._caller = caller
        self._budget = PROGRESS_BYTES

    async def follow(
        self, job_id: UUID, after: int, *, previews: bool
    ) -> AsyncIterator[ServerSentEvent]:
        """Events from ``after`` + 1 on; those with a number carry it as their id."""
        check_at = monotonic() + CHECK_KEY_EVERY_S
        async with self._feeds.open(self._caller.tenant_id) as feed:
            await feed.watch(job_id, after)
            while not self._stopping.is_set():
                event = await feed.next(LOOK_EVERY_S)
                if event is not None and self._affordable(event, previews=previews):
                    yield _sent(event if previews else event.without_preview)
                    if event.type.terminal:
                        return
                if monotonic() >= check_at:
                    if not await self._keys.may_stay(self._caller):
                        return
                    check_at = monotonic() + CHECK_KEY_EVERY_S

    def _affordable(self, event: Event, *, previews: bool) -> bool:
        if event.seq is not None:
            return True
        told = event if previews else event.without_preview
        cost = len(told.text.encode()) + MESSAGE_COST_BYTES
        if cost > self._budget:
            self._budget = 0  # no smaller one after it: progress ends once
            return False
        self._budget -= cost
        return True


def _sent(event: Event) -> ServerSentEvent:
    number = None if event.seq is None else str(event.seq)
    return ServerSentEvent(raw_data=event.text, event=event.type.value, id=number)
