"""The bus on a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import redis.asyncio as redis

from serve.api.schemas.event import EventOut
from serve.events import EVENTS, Event, EventBus, EventType, Subscription

JOB, OTHER = uuid4(), uuid4()


async def heard(subscription: Subscription) -> Event | None:
    assert await subscription.arrival(5)
    return subscription.pop()


def durable(seq: int, event_type: EventType = EventType.RUNNING, job_id: UUID = JOB) -> Event:
    return Event(uuid4(), job_id, seq, event_type, datetime.now(UTC))


def progress(step: int, image: str = "one", job_id: UUID = JOB) -> Event:
    data = {"image_id": image, "step": step, "preview": "data:image/webp;base64,AAAA"}
    return Event(uuid4(), job_id, None, EventType.PROGRESS, datetime.now(UTC), data)


def rest(subscription: Subscription) -> list[tuple[int | None, object, object]]:
    """Number, image and step of everything that waits."""
    told = iter(subscription.pop, None)
    return [(event.seq, event.data.get("image_id"), event.data.get("step")) for event in told]


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
        assert await heard(first) == event
        assert await heard(second) == event
        assert stranger.pop() is None
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
        assert await heard(subscription) == event
    await bus.close()


async def test_without_redis_nothing_fails() -> None:
    bus = EventBus("redis://127.0.0.1:1")
    await bus.start()
    assert not await bus.ping()
    await bus.publish(Event(uuid4(), uuid4(), 1, EventType.QUEUED, datetime.now(UTC)))
    await bus.announce_work()
    async with asyncio.timeout(5):
        await bus.close()


def test_clients_read_the_schema_and_no_tenant() -> None:
    event = progress(3)
    told = EventOut.model_validate_json(event.text)
    assert (told.type, told.job_id, told.seq) == (event.type, event.job_id, None)
    assert (told.created_at, told.data) == (event.created_at, event.data)
    assert str(event.tenant_id) not in event.text
    assert event.text.endswith("}")
    assert event.text is event.text, "made once"
    assert Event.decode(event.encode()) == event, "what was made for clients stays here"


def test_a_full_subscription_keeps_the_newest_progress_of_each_picture() -> None:
    subscription = Subscription(limit=2)
    for event in (
        *(progress(step) for step in range(6)),
        *(progress(step, "two") for step in range(3)),
        durable(1),
    ):
        subscription.offer(event)
    assert rest(subscription) == [
        (None, "one", 0),
        (None, "one", 1),
        (1, None, None),
        (None, "one", 5),
        (None, "two", 2),
    ]
    assert not subscription.overrun


def test_coalesced_progress_never_goes_back_and_ends_with_its_picture() -> None:
    subscription = Subscription(limit=1)
    for event in (progress(0), progress(1), progress(1, "two"), progress(1, "far", OTHER)):
        subscription.offer(event)
    assert subscription.pop() is not None
    subscription.offer(progress(2))
    subscription.offer(durable(1, EventType.SUCCEEDED, OTHER))
    assert rest(subscription) == [(None, "one", 2), (1, None, None), (None, "two", 1)]


def test_coalesced_progress_gives_up_its_preview() -> None:
    subscription = Subscription(limit=0)
    subscription.offer(progress(0))
    event = subscription.pop()
    assert event is not None
    assert set(event.data) == {"image_id", "step"}


def test_durable_events_are_never_dropped_without_a_word() -> None:
    subscription = Subscription(limit=2)
    for step in range(5):
        subscription.offer(progress(step))
    for seq in (1, 2):
        subscription.offer(durable(seq))
    before = subscription.overrun
    subscription.offer(durable(3))
    assert (before, subscription.overrun) == (False, True)
    assert [seq for seq, *_ in rest(subscription) if seq] == [1, 2]


def test_a_subscription_to_jobs_hears_of_no_other() -> None:
    subscription = Subscription()
    subscription.jobs = {JOB}
    subscription.offer(durable(1, job_id=OTHER))
    subscription.offer(durable(2))
    assert rest(subscription) == [(2, None, None)]


async def test_tells_whether_redis_is_heard(valkey_url: str) -> None:
    here, deaf = EventBus(valkey_url), EventBus("redis://127.0.0.1:1")
    await asyncio.gather(here.start(), deaf.start())
    async with asyncio.timeout(10):
        await here.work.wait()
    assert here.listening
    assert not deaf.listening
    await asyncio.gather(here.close(), deaf.close())
