"""What is counted of events that are sent, and of those that are not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from serve.events.bus import Subscription
from serve.events.event import Event, EventType
from serve.events.flow_control import SendWindow
from serve.events.tally import EventTally
from serve.observability.registry import Registry
from tests.serve.observability.recorded import recorded

SENT, DROPPED = "sfumato_events_sent_total", "sfumato_events_dropped_total"
DELAYS = "sfumato_event_delay_seconds_count"


def event(event_type: EventType = EventType.QUEUED, age_s: float = 0.0, **data: object) -> Event:
    created_at = datetime.now(UTC) - timedelta(seconds=age_s)
    seq = None if event_type is EventType.PROGRESS else 1
    return Event(uuid4(), uuid4(), seq, event_type, created_at, data)


async def test_the_meter_is_told_in_one_call_for_many() -> None:
    registry = Registry()
    tally = EventTally(registry)
    now = datetime.now(UTC)
    for _ in range(1000):
        tally.sent(event(), now)
    assert recorded(registry, SENT) == 0
    async with asyncio.timeout(5):
        while recorded(registry, SENT) < 1000:
            await asyncio.sleep(0.05)
    tally.tell()
    assert recorded(registry, SENT, type="job.queued") == 1000
    assert 1 <= recorded(registry, DELAYS) < 1000, "of many, some are measured"


async def test_a_replayed_event_has_no_delay() -> None:
    registry = Registry()
    tally = EventTally(registry)
    since = datetime.now(UTC) - timedelta(seconds=2)
    tally.sent(event(age_s=3600), since)
    assert recorded(registry, DELAYS) == 0
    tally.sent(event(age_s=1), since)
    assert recorded(registry, DELAYS) == 1
    assert 1 <= recorded(registry, "sfumato_event_delay_seconds_sum") < 2


async def test_types_of_a_newer_version_make_no_series_of_their_own() -> None:
    registry = Registry()
    tally = EventTally(registry)
    for number in range(3):
        tally.sent(event(EventType.read(f"image.number_{number}")), datetime.now(UTC))
    tally.tell()
    assert recorded(registry, SENT, type="other") == 3 == recorded(registry, SENT)


async def test_progress_that_gives_way_is_dropped() -> None:
    registry = Registry()
    tally = EventTally(registry)
    window = SendWindow(0, dropped=tally.dropped)
    waiting = Subscription(limit=0, dropped=tally.dropped)
    one = event(EventType.PROGRESS, image_id="one", step=1)
    for _ in range(4):  # the newest is kept, until there is room
        assert window.event(one) is None
        waiting.offer(one)
    tally.tell()
    assert recorded(registry, DROPPED, type="image.progress") == 6
