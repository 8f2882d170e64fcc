"""The bus on a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import orjson
import pytest
import redis.asyncio as redis

from loadtests.chaos.proxy import FaultProxy, unix_socket
from serve.events.bus import EVENTS, EventBus, Subscription
from serve.events.event import Event, EventType
from serve.events.schemas import JobEvent

JOB, OTHER = uuid4(), uuid4()


async def heard(subscription: Subscription) -> Event | None:
    async with asyncio.timeout(10):
        await subscription.wakeup.wait()
    subscription.wakeup.clear()
    return subscription.pop()


def durable(seq: int, event_type: EventType = EventType.RUNNING, job_id: UUID = JOB) -> Event:
    return Event(uuid4(), job_id, seq, event_type, datetime.now(UTC))


def progress(step: int, image: str = "one", job_id: UUID = JOB) -> Event:
    data = {"image_id": image, "step": step, "preview": "data:image/webp;base64,AAAA"}
    return Event(uuid4(), job_id, None, EventType.PROGRESS, datetime.now(UTC), data)


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
            told = orjson.loads(event.encode())
            for changes in ({"tenant_id": 7}, {"job_id": [1]}, {"seq": "x"}, {"created_at": 0}):
                await stranger.publish(EVENTS, orjson.dumps(told | changes))
        await bus.publish(event)
        assert await heard(subscription) == event
    await bus.close()


async def test_what_a_newer_version_tells_is_passed_on(valkey_url: str) -> None:
    """Its types, durable ones and progress; what else it adds is passed over."""
    bus = EventBus(valkey_url)
    await bus.start()
    known = durable(3)
    async with bus.subscribe(known.tenant_id) as subscription, asyncio.timeout(10):
        await bus.work.wait()
        told = orjson.loads(known.encode()) | {"region": "eu"}
        newer = [
            {"type": "job.paused", "data": [1]},
            {"type": "image.heat", "seq": None, "data": {"image_id": {"id": 1}}},
            {"type": "image.progress", "seq": None, "data": {"step": 1}},
        ]
        async with redis.from_url(valkey_url) as other:
            for changes in newer:
                await other.publish(EVENTS, orjson.dumps(told | changes))
        await bus.publish(known)
        heard_of: list[Event] = []
        while known not in heard_of:
            if (event := await heard(subscription)) is not None:
                heard_of.append(event)
            while (event := subscription.pop()) is not None:
                heard_of.append(event)
    first = heard_of[0]
    assert (first.type, first.seq, first.data) == ("job.paused", 3, {})
    assert not first.type.terminal
    assert orjson.loads(first.text)["type"] == "job.paused"
    assert Event.decode(first.encode()) == first
    assert "image.heat" in {event.type for event in heard_of}
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
    fields = orjson.loads(event.text)
    assert set(fields) == set(JobEvent.model_fields)
    assert (fields["type"], UUID(fields["job_id"]), fields["seq"]) == (
        event.type,
        event.job_id,
        None,
    )
    assert datetime.fromisoformat(fields["created_at"]) == event.created_at
    assert fields["data"] == event.data
    assert str(event.tenant_id) not in event.text
    assert event.text.endswith("}")
    assert event.text is event.text, "made once"
    assert Event.decode(event.encode()) == event, "what was made for clients stays here"


async def test_tells_whether_redis_is_heard(valkey_url: str) -> None:
    here, deaf = EventBus(valkey_url), EventBus("redis://127.0.0.1:1")
    await asyncio.gather(here.start(), deaf.start())
    async with asyncio.timeout(10):
        await here.work.wait()
    assert here.listening
    assert not deaf.listening
    await asyncio.gather(here.close(), deaf.close())


async def test_a_redis_that_hangs_holds_nobody_up() -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    bus = EventBus(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with asyncio.timeout(15):  # a second or two each would be a minute
        for seq in range(30):
            await bus.publish(durable(seq))
    assert held
    await bus.close()
    for writer in held:
        writer.close()
    server.close()


async def test_after_a_failure_redis_is_tried_again(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.bus._PAUSE_S", 0.0)
    bus = EventBus(valkey_url)
    good, bus._out = bus._out, redis.from_url("redis://127.0.0.1:1")
    await bus.publish(durable(1))
    bus._out = good
    await bus.start()
    async with asyncio.timeout(10):
        await bus.work.wait()
    event = durable(2)
    async with bus.subscribe(event.tenant_id) as subscription:
        await bus.publish(event)
        assert await heard(subscription) == event
    await bus.close()


async def test_a_redis_that_falls_silent_is_listened_to_anew(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.bus._PING_AFTER_S", 0.2)
    proxy = FaultProxy(unix_socket(Path(urlsplit(valkey_url).path)))
    bus = EventBus(f"redis://127.0.0.1:{await proxy.start()}")
    await bus.start()
    event = Event(uuid4(), uuid4(), 1, EventType.QUEUED, datetime.now(UTC))
    there = EventBus(valkey_url)
    async with bus.subscribe(event.tenant_id) as subscription, asyncio.timeout(30):
        await bus.work.wait()
        await asyncio.sleep(2)  # longer than an answer to a ping may take: quiet is no silence
        assert bus.listening
        bus.work.clear()
        proxy.freeze()
        await bus.work.wait()  # it listens again
        await there.publish(event)
        assert await heard(subscription) == event
    assert bus.loops[0].age_s < 10
    await asyncio.gather(bus.close(), there.close())
    proxy.reset()
    await proxy.close()
