"""The Redis channel that carries events between processes, and its subscribers in this process.

Redis may lose any message. What it loses is read from Postgres (`serve.events.feed`).
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from itertools import islice
from time import monotonic
from uuid import UUID

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from serve.answer_cache import Cached, answers_of
from serve.events.event import Event, EventType
from serve.events.progress import LatestProgress, ProgressPace, ignore_dropped
from serve.events.tally import EventTally
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import REDIS_ROUND_TRIP
from serve.supervise import Loop, RoundDone

log = structlog.get_logger(__name__)

EVENTS = "sfumato:events"
WORK = "sfumato:work"
_PAUSE_S = 1.0
"""Nothing is published for so long after a failure."""
_PING_AFTER_S = 5.0
"""Redis is pinged after so long without a message."""
_MAX_UNANSWERED = 3
"""Pings. Two confirmations of subscriptions count as well."""
_UUID_BYTES = 16
_MAX_ENDED = 10_000  # an ingress never clears them; a worker does so at once
WAKE_AT_ONCE = 32
"""Some two milliseconds of work (docs/decisions/0029-what-an-event-costs.md)."""


class Subscription:
    """A bounded queue of one listener.

    Once ``limit`` events wait, only the newest progress of each picture is kept, and is read after
    the rest. Durable events are never dropped: if another ``limit`` of them come, the listener is
    too slow, ``overrun`` is set, and the listener should be closed.
    """

    def __init__(
        self,
        limit: int = 256,
        wake: Callable[[Callable[[], None]], None] = operator.call,
        dropped: Callable[[Event], None] = ignore_dropped,
    ) -> None:
        """``wake`` is given the function that wakes the listener, to be called now or soon.

        ``dropped`` is told of progress that the listener never gets.
        """
        self.overrun = False
        self.jobs: set[UUID] | None = None
        """The jobs whose events are queued; None means every job of the tenant."""
        self.wakeup = asyncio.Event()
        """Set after every offer. The listener clears it, and then looks for everything that it
        waits for; others may set it too, so that one wait serves several causes."""
        self._limit = limit
        self._wake = wake
        self._events: deque[Event] = deque()
        self._latest = LatestProgress(dropped)

    @property
    def full(self) -> bool:
        """Whether ``limit`` events wait: what can be offered again should be."""
        return len(self._events) >= self._limit

    def offer(self, event: Event) -> bool:
        """Queue the event if the listener wants it; returns whether it does."""
        if self.overrun or (self.jobs is not None and event.job_id not in self.jobs):
            return False
        if event.seq is None and self.full:
            self._latest.put(event.without_preview)
        elif len(self._events) >= 2 * self._limit:
            self.overrun = True
        else:
            self._latest.drop_older(event)
            self._events.append(event)
        self._wake(self.wakeup.set)
        return True

    def pop(self) -> Event | None:
        """The next event, if there is one."""
        return self._events.popleft() if self._events else self._latest.pop()


class WakeQueue:
    """Wakes listeners a few at a time, each once however often it is asked to.

    The event loop runs in between. So an event that comes while the one before is sent around joins
    it for all listeners that were not woken yet, and a request does not wait for thousands of them.
    """

    def __init__(self, at_once: int = WAKE_AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: dict[Callable[[], None], None] = {}

    def add(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when its turn comes; needs a running loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        self._waiting[wake] = None

    def _next(self) -> None:
        try:
            for wake in list(islice(self._waiting, self._at_once)):
                del self._waiting[wake]
                wake()
        finally:  # one that fails must not keep the others waiting
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._next)


class EventBus:
    """Publishes to Redis, and passes what Redis brings to the listeners of this process.

    There is one Redis subscription a process, however many clients listen. While Redis is away,
    nothing is published or received, and Postgres alone brings the events.
    """

    def __init__(
        self, url: str, channels: Sequence[str] = (EVENTS, WORK), meter: Meter = UNMETERED
    ) -> None:
        self.tally = EventTally(meter)
        self._meter = meter
        self._channels = channels
        self._redis = redis.from_url(url, socket_connect_timeout=2)
        # Requests wait for what they publish: a Redis that hangs must not hold them up.
        self._out = redis.from_url(
            url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 1)
        )
        self._paused_until = 0.0
        self._listeners: dict[UUID, set[Subscription]] = {}
        self.work = asyncio.Event()
        """Set by every announcement of work; the one who waits for it clears it."""
        self.ended: set[UUID] = set()
        """Jobs that ended with pictures unfinished; a worker reads and clears it."""
        self.listening = False
        """Whether the subscription to Redis works at present."""
        self._pace = ProgressPace(self._fan_out)
        self._wake_queue = WakeQueue()
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
        sent_at = monotonic()
        try:
            await self._out.ping()
        except (RedisError, OSError):
            return False
        self._meter.observe(REDIS_ROUND_TRIP, monotonic() - sent_at)
        return True

    async def publish(self, *events: Event) -> None:
        """Send the events to every process; it does no harm if they are lost.

        The workers are told of jobs that were queued, and of those that ended before all of their
        pictures did. Pages without a picture that was just committed are forgotten first.
        """
        messages = []
        pages = {
            answers_of(Cached.PAGES, event.tenant_id)
            for event in events
            if event.type is EventType.IMAGE_SUCCEEDED
        }
        for event in events:
            if event.type is EventType.QUEUED:
                messages.append((WORK, b""))
            elif event.type.terminal and event.type is not EventType.SUCCEEDED:
                messages.append((WORK, event.job_id.bytes))
            messages.append((EVENTS, event.encode()))
        await self._send(*messages, outdated=pages)

    async def announce_work(self) -> None:
        """Wake the workers: a picture was returned to the queue."""
        await self._send((WORK, b""))

    async def _send(self, *messages: tuple[str, bytes], outdated: Collection[str] = ()) -> None:
        if not messages or monotonic() < self._paused_until:
            return
        sent_at = monotonic()
        try:
            async with self._out.pipeline(transaction=False) as pipe:
                if outdated:
                    pipe.unlink(*outdated)
                for channel, message in messages:
                    pipe.publish(channel, message)
                await pipe.execute()
        except (RedisError, OSError) as error:
            self._paused_until = monotonic() + _PAUSE_S
            log.warning("events.publish_failed", error=str(error), messages=len(messages))
        else:
            self._meter.observe(REDIS_ROUND_TRIP, monotonic() - sent_at)

    @contextlib.asynccontextmanager
    async def subscribe(self, tenant_id: UUID) -> AsyncIterator[Subscription]:
        """The tenant's events from now on."""
        subscription = Subscription(wake=self._wake_queue.add, dropped=self.tally.dropped)
        self._listeners.setdefault(tenant_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            listeners = self._listeners[tenant_id]
            listeners.discard(subscription)
            if not listeners:
                del self._listeners[tenant_id]

    def _fan_out(self, event: Event) -> int:
        """Offer the event to every listener of the tenant; returns how many want it."""
        return sum(
            subscription.offer(event) for subscription in self._listeners.get(event.tenant_id, ())
        )

    def _receive(self, channel: bytes, message: bytes) -> None:
        if channel == WORK.encode():
            if len(message) == _UUID_BYTES and len(self.ended) < _MAX_ENDED:
                self.ended.add(UUID(bytes=message))
            self.work.set()
            return
        try:
            self._pace.offer(Event.decode(message))
        except Exception as error:  # noqa: BLE001 - only this message is lost
            log.warning("events.not_an_event", error=f"{type(error).__name__}: {error}")

    async def _listen(self, round_done: RoundDone) -> None:
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(*self._channels)
                self.listening = True
                self.work.set()  # announcements before now were missed
                unanswered = 0
                while unanswered <= _MAX_UNANSWERED:
                    message = await pubsub.get_message(timeout=_PING_AFTER_S)
                    round_done()
                    if message is None:
                        unanswered += 1
                        await pubsub.ping()
                        continue
                    unanswered = 0
                    if message["channel"] is not None:  # None: the answer to a ping
                        self._receive(message["channel"], message["data"])
                raise RedisConnectionError("Redis does not answer.")
        finally:
            self.listening = False
