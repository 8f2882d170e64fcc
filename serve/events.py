"""Events of jobs, and the Redis channel that carries them.

Every message here is a hint: one that is lost is read from Postgres again (`serve.jobs.feed`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

EVENTS = "sfumato:events"
WORK = "sfumato:work"


class EventType(StrEnum):
    QUEUED = "job.queued"
    RUNNING = "job.running"
    PROGRESS = "image.progress"
    IMAGE_SUCCEEDED = "image.succeeded"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED}
)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    ``seq`` counts a job's durable events from 1; None marks an ephemeral one (progress), which
    is never replayed.
    """

    tenant_id: UUID
    job_id: UUID
    seq: int | None
    type: EventType
    created_at: datetime
    data: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The message between processes."""
        # asyncpg has a UUID type of its own
        return orjson.dumps({"tenant_id": self.tenant_id, **self._told}, default=str)

    @cached_property
    def text(self) -> str:
        """What clients read, as JSON: made once a process, however many of them read it."""
        return orjson.dumps(self._told, default=str, option=orjson.OPT_UTC_Z).decode()

    @cached_property
    def without_preview(self) -> Event:
        """The same progress without its picture, made once as well."""
        if "preview" not in self.data:
            return self
        data = {name: value for name, value in self.data.items() if name != "preview"}
        return replace(self, data=data)

    @property
    def _told(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "job_id": self.job_id,
            "seq": self.seq,
            "created_at": self.created_at,
            "data": self.data,
        }

    @classmethod
    def decode(cls, message: bytes) -> Event:
        fields = orjson.loads(message)
        return cls(
            tenant_id=UUID(fields["tenant_id"]),
            job_id=UUID(fields["job_id"]),
            seq=fields["seq"],
            type=EventType(fields["type"]),
            created_at=datetime.fromisoformat(fields["created_at"]),
            data=fields["data"],
        )


class LatestProgress:
    """Progress that waits for room: the newest of each picture, without its preview."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, dict[object, Event]] = {}

    def put(self, event: Event) -> None:
        """Keep this progress in the place of the picture's older one."""
        pictures = self._by_job.setdefault(event.job_id, {})
        pictures[event.data.get("image_id")] = event.without_preview

    def pop(self) -> Event | None:
        """The progress of the picture that has waited longest."""
        if not self._by_job:
            return None
        pictures = next(iter(self._by_job.values()))
        event = pictures[next(iter(pictures))]
        self.outdate(event)
        return event

    def outdate(self, event: Event) -> None:
        """Drop what is older than this event: of its picture, or of its job where that ended."""
        if event.type.terminal:
            self._by_job.pop(event.job_id, None)
        elif pictures := self._by_job.get(event.job_id):
            pictures.pop(event.data.get("image_id"), None)
            if not pictures:
                del self._by_job[event.job_id]


class Subscription:
    """A bounded queue of one listener.

    Holding ``limit`` events, it keeps only the newest progress of each picture, and tells that
    once the rest was read. Durable events are never dropped: a listener that lets ``limit`` of
    them pile up has lost the thread, ``overrun`` is set, and it should be closed.
    """

    def __init__(self, limit: int = 256) -> None:
        self.overrun = False
        self.jobs: set[UUID] | None = None
        """Hears of these alone; None hears of every job of the tenant."""
        self._limit = limit
        self._events: deque[Event] = deque()
        self._later = LatestProgress()
        self._arrived = asyncio.Event()

    def offer(self, event: Event) -> None:
        if self.overrun or (self.jobs is not None and event.job_id not in self.jobs):
            return
        if event.seq is None and len(self._events) >= self._limit:
            self._later.put(event)
        elif len(self._events) >= 2 * self._limit:
            self.overrun = True
        else:
            self._later.outdate(event)
            self._events.append(event)
        self._arrived.set()

    def pop(self) -> Event | None:
        """The next event, if there is one."""
        self._arrived.clear()
        return self._events.popleft() if self._events else self._later.pop()

    async def arrival(self, timeout_s: float | None = None) -> bool:
        """Wait for an offer since the last ``pop``; False once ``timeout_s`` has passed."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._arrived.wait()
        except TimeoutError:
            return False


class EventBus:
    """Publishes to Redis, and fans what Redis brings out to the listeners of this process.

    One subscription a process however many clients listen. While Redis is away, publishing
    and listening fall silent, and Postgres carries on alone.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.from_url(url, socket_connect_timeout=2, health_check_interval=10)
        self._listeners: dict[UUID, set[Subscription]] = {}
        self.work = asyncio.Event()
        """Set by every announcement of work; whoever waits for it clears it."""
        self.listening = False
        """Whether Redis is heard at present."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._listen(), name="event-bus")

    async def close(self) -> None:
        # redis-py swallows a cancellation that arrives while it connects: ask until it is heard.
        while self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=0.1)
        await self._redis.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            await self._redis.ping()
        except (RedisError, OSError):
            return False
        return True

    async def publish(self, *events: Event) -> None:
        """Tell every process; losing this does no harm."""
        if not events:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for event in events:
                    pipe.publish(EVENTS, event.encode())
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("events.publish_failed", error=str(error), events=len(events))

    async def announce_work(self) -> None:
        """Wake the workers: something was queued, cancelled or handed back."""
        try:
            await self._redis.publish(WORK, b"")
        except (RedisError, OSError) as error:
            log.warning("events.announce_failed", error=str(error))

    @contextlib.asynccontextmanager
    async def subscribe(self, tenant_id: UUID) -> AsyncIterator[Subscription]:
        """The tenant's events from now on."""
        subscription = Subscription()
        self._listeners.setdefault(tenant_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            listeners = self._listeners[tenant_id]
            listeners.discard(subscription)
            if not listeners:
                del self._listeners[tenant_id]

    def _hear(self, message: bytes) -> None:
        try:
            event = Event.decode(message)
        except (ValueError, KeyError, TypeError) as error:
            log.warning(
                "events.not_an_event", error=str(error)
            )  # another version's, or a stranger's
            return
        for subscription in self._listeners.get(event.tenant_id, ()):
            subscription.offer(event)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(EVENTS, WORK)
                    self.listening = True
                    self.work.set()  # whatever was announced before now went unheard
                    async for message in pubsub.listen():
                        if message["channel"] == WORK.encode():
                            self.work.set()
                        else:
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                self.listening = False
                log.warning("events.listen_failed", error=str(error))
                await asyncio.sleep(1)
