"""Events of jobs, and the Redis channel that carries them.

Every message here is a hint: one that is lost is read from Postgres again (`serve.jobs.feed`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

EVENTS = "sfumato:events"
WORK = "sfumato:work"

_UUID_BYTES = 16
_MOST_ENDED = 10_000  # an ingress never clears them; who draws does so at once


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


@dataclass(frozen=True, slots=True)
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
        return orjson.dumps(self, default=str)  # asyncpg has a UUID type of its own

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


class Subscription:
    """A bounded queue of one listener: full, it drops progress first, and never a durable event.

    A listener that lets ``limit`` durable events pile up has lost the thread: ``overrun`` is set,
    and it should be closed or read from Postgres again.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.overrun = False

    def offer(self, event: Event) -> None:
        if self._events.qsize() >= self._limit:
            if event.seq is None:
                return
            self.overrun = True
        if self._events.qsize() < 2 * self._limit:
            self._events.put_nowait(event)

    async def get(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None once ``timeout_s`` has passed."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._events.get()
        except TimeoutError:
            return None


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
        self.ended: set[UUID] = set()
        """Jobs that ended with pictures unfinished; whoever draws such looks, and clears it."""
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
        """Wake the workers: something was queued or handed back."""
        await self._announce(b"")

    async def announce_end(self, job_id: UUID) -> None:
        """Tell the workers that a job ended before all of its pictures did."""
        await self._announce(job_id.bytes)

    async def _announce(self, message: bytes) -> None:
        try:
            await self._redis.publish(WORK, message)
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

    def _wake(self, message: bytes) -> None:
        if len(message) == _UUID_BYTES and len(self.ended) < _MOST_ENDED:
            self.ended.add(UUID(bytes=message))
        self.work.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(EVENTS, WORK)
                    self.work.set()  # whatever was announced before now went unheard
                    async for message in pubsub.listen():
                        if message["channel"] == WORK.encode():
                            self._wake(message["data"])
                        else:
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                log.warning("events.listen_failed", error=str(error))
                await asyncio.sleep(1)
