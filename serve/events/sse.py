"""One job's events as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

from fastapi.sse import ServerSentEvent

from serve.access.keys import Keys, Principal
from serve.events.delivered import record_delivery
from serve.events.feed import Feeds
from serve.events.flow_control import MESSAGE_COST_BYTES
from serve.events.tally import EventTally

PROGRESS_BYTES = 128 * 1024
LOOK_EVERY_S = 1.0
CHECK_KEY_EVERY_S = 15.0


async def stream_events(
    feeds: Feeds,
    keys: Keys,
    tally: EventTally,
    stopping: asyncio.Event,
    caller: Principal,
    job_id: UUID,
    after: int,
    *,
    previews: bool,
) -> AsyncIterator[ServerSentEvent]:
    """Events from ``after`` + 1 to the job's end, or until the server stops or the key is revoked.

    The client acknowledges nothing here, so progress has a budget: after ``PROGRESS_BYTES`` of it,
    counted as on the WebSocket, only durable events are sent. Those carry their number as their id.
    """
    budget = PROGRESS_BYTES
    following_since = datetime.now(UTC)
    check_at = monotonic() + CHECK_KEY_EVERY_S
    async with feeds.open(caller.tenant_id) as feed:
        await feed.watch(job_id, after)
        while not stopping.is_set():
            event = await feed.next(LOOK_EVERY_S)
            if event is not None:
                if not previews:
                    event = event.without_preview
                cost = 0 if event.seq else len(event.text.encode()) + MESSAGE_COST_BYTES
                affordable = cost <= budget
                budget = budget - cost if affordable else 0  # no smaller progress comes after
                if not affordable:
                    tally.dropped(event)
                else:
                    number = str(event.seq) if event.seq else None
                    began = monotonic()
                    tally.sent(event, following_since)
                    yield ServerSentEvent(raw_data=event.text, event=event.type.value, id=number)
                    record_delivery(event, "sse", began)
                if event.type.terminal:
                    return
            if monotonic() >= check_at:
                if not await keys.may_stay(caller):
                    return
                check_at = monotonic() + CHECK_KEY_EVERY_S
