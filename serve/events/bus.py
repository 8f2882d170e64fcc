"""Events of jobs, and the Redis channel that carries them.

Every message here is a hint: one that is lost is read from Postgres again (`serve.events.feed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from time import monotonic
from typing import Any
from uuid import UUID

import orjson
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from serve.events.pace import ProgressPace
from serve.events.subscription import Subscription
from serve.events.wave import Wave
from serve.open_enum import OpenEnum
from serve.supervise import Loop, Turned

log = structlog.get_logger(__name__)

EVENTS = "sfumato:events"
WORK = "sfumato:work"
_SILENCE_S = 1.0
"""After a failure nothing is published for so long."""
_QUIET_S = 5.0
"""Without a message Redis is asked whether it is there."""
_MOST_QUIET = 3
"""So often it may keep quiet all the same: two confirmations of subscriptions count as well."""

_UUID_BYTES = 16
_MOST_ENDED = 10_000  # an ingress never clears them; who draws does so at once


class EventType(OpenEnum):
    """What happened; types that are not listed here may come, and none of them ends a job."""

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
        return as_json({"tenant_id": self.tenant_id, **self._told})

    @cached_property
    def text(self) -> str:
        """What clients read, as JSON: made once a process, however many of them read it."""
        return as_json(self._told, orjson.OPT_UTC_Z).decode()

    @cached_property
    def without_preview(self) -> Event:
        """The same progress without its picture, made once as well."""
        if "preview" not in self.data:
            return self
        data = {name: value for name, value in self.data.items() if name != "preview"}
        return replace(self, data=data)

    @property
    def image_id(self) -> str | None:
        """Of the picture that it is about, if it is about one."""
        image_id = self.data.get("image_id")
        return image_id if isinstance(image_id, str) else None

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
        """What ``encode`` made; fields that a newer version added are passed over.

        Raises:
            Exception: of whatever kind, it is no event.
        """
        fields = orjson.loads(message)
        seq = fields["seq"]
        return cls(
            tenant_id=UUID(fields["tenant_id"]),
            job_id=UUID(fields["job_id"]),
            seq=None if seq is None else int(seq),
            type=EventType.read(fields["type"]),
            created_at=datetime.fromisoformat(fields["created_at"]),
            data=event_data(fields["data"]),
        )


def as_json(told: Any, option: int = 0) -> bytes:
    """Whatever an event may hold; integers in Postgres' JSON have no bound, those of orjson have.

    ``option`` is orjson's.
    """
    try:
        return orjson.dumps(told, default=str, option=option)  # asyncpg has a UUID of its own
    except orjson.JSONEncodeError:
        return json.dumps(told, default=_plain).encode()


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def event_data(told: Any) -> dict[str, Any]:
    """An event's data as it was read; none, where it is not the object that it has always been."""
    return told if isinstance(told, dict) else {}


class EventBus:
    """Publishes to Redis, and fans what Redis brings out to the listeners of this process.

    One subscription a process however many clients listen. While Redis is away, publishing
    and listening fall silent, and Postgres carries on alone.
    """

    def __init__(self, url: str, channels: Sequence[str] = (EVENTS, WORK)) -> None:
        self._channels = channels
        self._redis = redis.from_url(url, socket_connect_timeout=2)
        # Whoever publishes is a request that waits: a Redis that hangs may not hold it up.
        self._out = redis.from_url(
            url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 1)
        )
        self._silent_until = 0.0
        self._listeners: dict[UUID, set[Subscription]] = {}
        self.work = asyncio.Event()
        """Set by every announcement of work; whoever waits for it clears it."""
        self.ended: set[UUID] = set()
        """Jobs that ended with pictures unfinished; whoever draws such looks, and clears it."""
        self.listening = False
        """Whether Redis is heard at present."""
        self._pace = ProgressPace(self._fan_out)
        self._wave = Wave()
        self.loops: list[Loop] = []
        """What runs in the background."""

    async def start(self) -> None:
        """Begin to listen."""
        self.loops.append(Loop("event-bus", self._listen, expected=(RedisError, OSError)))

    async def close(self) -> None:
        for loop in self.loops:
            await loop.stop()
        self._pace.close()
        await self._redis.aclose()
        await self._out.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            await self._out.ping()
        except (RedisError, OSError):
            return False
        return True

    async def publish(self, *events: Event) -> None:
        """Tell every process; losing this does no harm."""
        await self._say(*((EVENTS, event.encode()) for event in events))

    async def announce_work(self) -> None:
        """Wake the workers: something was queued or handed back."""
        await self._say((WORK, b""))

    async def announce_end(self, job_id: UUID) -> None:
        """Tell the workers that a job ended before all of its pictures did."""
        await self._say((WORK, job_id.bytes))

    async def _say(self, *messages: tuple[str, bytes]) -> None:
        if not messages or monotonic() < self._silent_until:
            return
        try:
            async with self._out.pipeline(transaction=False) as pipe:
                for channel, message in messages:
                    pipe.publish(channel, message)
                await pipe.execute()
        except (RedisError, OSError) as error:
            self._silent_until = monotonic() + _SILENCE_S
            log.warning("events.publish_failed", error=str(error), messages=len(messages))

    @contextlib.asynccontextmanager
    async def subscribe(self, tenant_id: UUID) -> AsyncIterator[Subscription]:
        """The tenant's events from now on."""
        subscription = Subscription(turn=self._wave.take)
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
            self._pace.offer(Event.decode(message))
        except Exception as error:  # noqa: BLE001 - another version's or a stranger's: it alone
            log.warning("events.not_an_event", error=f"{type(error).__name__}: {error}")

    def _fan_out(self, event: Event) -> int:
        """To every listener of the tenant; how many would hear it."""
        return sum(
            subscription.offer(event) for subscription in self._listeners.get(event.tenant_id, ())
        )

    def _wake(self, message: bytes) -> None:
        if len(message) == _UUID_BYTES and len(self.ended) < _MOST_ENDED:
            self.ended.add(UUID(bytes=message))
        self.work.set()

    async def _listen(self, turned: Turned) -> None:
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(*self._channels)
                self.listening = True
                self.work.set()  # whatever was announced before now went unheard
                quiet = 0
                while quiet <= _MOST_QUIET:
                    message = await pubsub.get_message(timeout=_QUIET_S)
                    turned()
                    if message is None:
                        quiet += 1
                        await pubsub.ping()
                        continue
                    quiet = 0
                    if message["channel"] == WORK.encode():
                        self._wake(message["data"])
                    elif message["channel"] is not None:  # else it is the answer to a ping
                        self._hear(message["data"])
                raise RedisConnectionError("Redis does not answer.")
        finally:
            self.listening = False
