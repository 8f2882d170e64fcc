"""The bus on a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import redis.asyncio as redis

from serve.events import EVENTS, Event, EventBus, EventType


async def test_every_listener_of_the_tenant_hears_and_no_other(valkey_url: str) -> None:
    here, there = EventBus(valkey_url), EventBus(valkey_url)
    event = Event(uuid4(), uuid4(), 1, EventType.QUEUED, datetime.now(UTC), {"n": 2})
    await there.start()
    async with (
        there.subscribe(event.tenant_id) as first,
        there.subscribe(event.tenant_id) as second,
        there.subscribe(uuid4()) as stranger,
    ):
        async with asyncio.timeout(10):
            await there.work.wait()  # it listens
        await here.publish(event)
        assert await first.get(5) == event
        assert await second.get(5) == event
        assert await stranger.get(0.1) is None
    await asyncio.gather(here.close(), there.close())


async def test_what_is_no_event_does_not_deafen(valkey_url: str) -> None:
    bus = EventBus(valkey_url)
    await bus.start()
    event = Event(uuid4(), uuid4(), 1, EventType.QUEUED, datetime.now(UTC))
    async with bus.subscribe(event.tenant_id) as subscription, asyncio.timeout(10):
        await bus.work.wait()
        async with redis.from_url(valkey_url) as stranger:
            for message in (b"", b"{", b"[]", b'{"type": "job.queued"}', b"\xff"):
                await stranger.publish(EVENTS, message)
        await bus.publish(event)
        assert await subscription.get(5) == event
    await bus.close()


async def test_without_redis_nothing_fails() -> None:
    bus = EventBus("redis://127.0.0.1:1")
    await bus.start()
    assert not await bus.ping()
    await bus.publish(Event(uuid4(), uuid4(), 1, EventType.QUEUED, datetime.now(UTC)))
    await bus.announce_work()
    async with asyncio.timeout(5):
        await bus.close()
