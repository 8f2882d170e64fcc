"""What one client has not seen, from Redis and from Postgres, as one stream of events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import ClassVar
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable, Session
from serve.errors import ServiceError
from serve.events.batched_reads import BatchedReads
from serve.events.bus import EventBus, Subscription
from serve.events.event import Event
from serve.events.repository import events_beyond, existing_jobs, live_jobs, new_jobs
from serve.supervise import Loop, RoundDone

log = structlog.get_logger(__name__)

MAX_JOBS = 1000
"""Jobs of a tenant that `watch_all` begins with."""
READS_AT_ONCE = 100
CATCH_UP_EVERY_S = 2.0
CATCH_UP_WITHOUT_REDIS_EVERY_S = 0.5
COMMIT_S = 10.0
"""The longest time from a job's id to the commit of its first transaction."""
MAX_DISCOVERY_S = 40.0
MAX_MUTED = 1000
MAX_ENDED = 5000
REMEMBER_END_S = 60.0
_FEEDS_A_TURN = 100


class JobNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "job_not_found"
    title: ClassVar[str] = "No such job"
    example = "There is no job 019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60."


class Feeds:
    """The feeds of one process, and their reads of Postgres.

    Two kinds of reads serve all feeds together: those that a feed asks for, in batches
    (docs/decisions/0033-clients-that-come-back.md), and a poll every two seconds, or twice a second
    while Redis is away, of what lies beyond the cursors of every feed
    (docs/decisions/0015-one-catch-up.md). Each read raises DatabaseUnavailable when Postgres does
    not answer.
    """

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database = database
        self._bus = bus
        self._feeds: set[Feed] = set()
        self._events = BatchedReads(self._read_events, READS_AT_ONCE, shared=DatabaseUnavailable)
        self._live = BatchedReads(self._read_live, READS_AT_ONCE, shared=DatabaseUnavailable)
        self._discovered_at = monotonic()
        self._polling: Loop | None = None
        """Runs only while there are feeds."""

    @property
    def loops(self) -> list[Loop]:
        """What runs in the background now."""
        return [self._polling] if self._polling else []

    @asynccontextmanager
    async def open(self, tenant_id: UUID) -> AsyncIterator[Feed]:
        """The tenant's events, for one client."""
        async with self._bus.subscribe(tenant_id) as subscription:
            feed = Feed(self, subscription, tenant_id)
            self._feeds.add(feed)
            if self._polling is None:
                self._discovered_at = monotonic()
                self._polling = Loop("catch-up", self._poll)
            try:
                yield feed
            finally:
                self._feeds.discard(feed)
                if not self._feeds and self._polling is not None:
                    polling, self._polling = self._polling, None
                    await polling.stop()

    async def events_after(
        self, tenant_id: UUID, cursors: Mapping[UUID, int]
    ) -> Mapping[UUID, Sequence[Event]]:
        """Each job's events after its cursor, in order. Jobs of other tenants are left out."""
        return await self._events.read((tenant_id, cursors))

    async def live_jobs(self, tenant_id: UUID) -> Sequence[UUID]:
        """The newest ``MAX_JOBS`` of the tenant's jobs that have not ended, or ended just now."""
        return await self._live.read(tenant_id)

    async def catch_up(self) -> None:
        """Read what each feed lacks, and offer it as Redis would; the feed decides what is new."""
        feeds = list(self._feeds)
        async with self._database.transaction() as session:
            await self._discover(session, [feed for feed in feeds if feed.watching_all])
            cursors: dict[UUID, dict[UUID, int]] = {}
            for number, feed in enumerate(feeds, start=1):
                _lower(cursors.setdefault(feed.tenant_id, {}), feed.cursors)
                if number % _FEEDS_A_TURN == 0:
                    await asyncio.sleep(0)  # there may be thousands: let other tasks run
            events = await events_beyond(session, cursors)
        by_tenant: dict[UUID, list[Feed]] = {}
        for feed in feeds:
            by_tenant.setdefault(feed.tenant_id, []).append(feed)
        for event in events:
            for feed in by_tenant[event.tenant_id]:
                try:
                    feed.offer(event)
                except Exception:  # only this event of this tenant is lost
                    log.exception("catch_up.event_failed", job_id=str(event.job_id), seq=event.seq)

    async def _discover(self, session: Session, feeds: Sequence[Feed]) -> None:
        """Tell the feeds that follow all jobs of those that began since the last poll."""
        began = monotonic()
        if feeds:
            within_s = min(began - self._discovered_at + COMMIT_S, MAX_DISCOVERY_S)
            new: dict[UUID, list[UUID]] = {feed.tenant_id: [] for feed in feeds}
            for tenant_id, job_id in await new_jobs(session, list(new), within_s, MAX_JOBS):
                new[tenant_id].append(job_id)
            for feed in feeds:
                feed.discover(new[feed.tenant_id])
        self._discovered_at = began

    async def _poll(self, round_done: RoundDone) -> None:
        while True:
            await asyncio.sleep(
                CATCH_UP_EVERY_S if self._bus.listening else CATCH_UP_WITHOUT_REDIS_EVERY_S
            )
            await self.catch_up()
            round_done()

    async def _read_events(
        self, requests: Sequence[tuple[UUID, Mapping[UUID, int]]]
    ) -> Sequence[Mapping[UUID, Sequence[Event]]]:
        lowest: dict[UUID, dict[UUID, int]] = {}
        for tenant_id, cursors in requests:
            _lower(lowest.setdefault(tenant_id, {}), cursors)
        found: dict[tuple[UUID, UUID], list[Event]] = {}
        async with self._database.transaction() as session:
            for event in await events_beyond(session, lowest):
                found.setdefault((event.tenant_id, event.job_id), []).append(event)
            without_events = [
                (tenant_id, job_id)
                for tenant_id, jobs in lowest.items()
                for job_id in jobs
                if (tenant_id, job_id) not in found
            ]
            for job in await existing_jobs(session, without_events):
                found[job] = []
        return [
            {
                job_id: [event for event in found[tenant_id, job_id] if (event.seq or 0) > seq]
                for job_id, seq in cursors.items()
                if (tenant_id, job_id) in found
            }
            for tenant_id, cursors in requests
        ]

    async def _read_live(self, tenants: Sequence[UUID]) -> Sequence[Sequence[UUID]]:
        async with self._database.transaction() as session:
            live = {
                tenant_id: await live_jobs(session, tenant_id, MAX_JOBS)
                for tenant_id in set(tenants)
            }
        return [live[tenant_id] for tenant_id in tenants]


def _lower(lowest: dict[UUID, int], cursors: Mapping[UUID, int]) -> None:
    """Lower each job's number to the cursor if that is lower or the first."""
    for job_id, seq in cursors.items():
        if seq < lowest.get(job_id, seq + 1):
            lowest[job_id] = seq


class Feed:
    """The events of watched jobs: each durable one once and in order, progress as it comes.

    An event that comes from Redis or from the poll may be lost, doubled or out of order. One that
    is ahead of its turn shows a gap, which is read from Postgres at once. A feed is for one task at
    a time; `next` may be cancelled at any point without loss.
    """

    def __init__(self, feeds: Feeds, subscription: Subscription, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.cursors: dict[UUID, int] = {}
        """The number of the last event of each watched job that was passed on."""
        self.watching_all = False
        self.wakeup = subscription.wakeup
        self._feeds = feeds
        self._subscription = subscription
        self._ended: dict[UUID, float] = {}
        """When the end of each of these jobs was passed on."""
        self._muted: dict[UUID, None] = {}
        """Jobs that are not watched while all others are."""
        self._behind: set[UUID] = set()
        self._ready: deque[Event] = deque()
        subscription.jobs = set()

    @property
    def behind(self) -> bool:
        """Whether events were missed, which `read_behind` reads."""
        return bool(self._behind)

    @property
    def overrun(self) -> bool:
        """Whether the client reads too slowly to be kept."""
        return self._subscription.overrun

    async def watch(self, job_id: UUID, after: int = 0) -> None:
        """Follow a job from event ``after`` + 1 on.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        self._subscribe(job_id)  # before the read: events that it does not see come live
        found = await self._feeds.events_after(self.tenant_id, {job_id: after})
        if job_id not in found:
            self._unsubscribe(job_id)
            raise JobNotFound(f"There is no job {job_id}.")
        self._ended.pop(job_id, None)
        self._muted.pop(job_id, None)
        self.cursors[job_id] = after
        self._emit(found[job_id])

    def unwatch(self, job_id: UUID) -> None:
        """Follow a job no longer."""
        self.cursors.pop(job_id, None)
        self._unsubscribe(job_id)
        if self.watching_all:
            self._muted[job_id] = None
            if len(self._muted) > MAX_MUTED:
                del self._muted[next(iter(self._muted))]

    async def watch_all(self) -> None:
        """Follow every job of the tenant that has not ended, and those to come."""
        self._subscription.jobs = None
        live = await self._feeds.live_jobs(self.tenant_id)
        self.watching_all = True
        self.discover(live)
        self._behind.update(job_id for job_id in live if job_id in self.cursors)

    def discover(self, job_ids: Iterable[UUID]) -> None:
        """Follow these jobs from their start, except those that are followed or have ended."""
        for job_id in job_ids:
            if job_id not in self._ended and job_id not in self._muted:
                self.cursors.setdefault(job_id, 0)

    def offer(self, event: Event) -> None:
        """Queue an event that a poll found; if there is no room, the next poll finds it again."""
        if self._subscription.full:
            return
        if event.seq is not None and event.seq > self.cursors.get(event.job_id, event.seq):
            self._subscription.offer(event)

    def ready(self) -> Event | None:
        """The next event, if there is one without waiting."""
        while not self._ready and (event := self._subscription.pop()) is not None:
            self._take(event)
        return self._ready.popleft() if self._ready else None

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None once ``timeout_s`` has passed."""
        until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while True:
            self.wakeup.clear()
            while (event := self.ready()) is None and self._behind:
                await self.read_behind()
            if event is not None:
                return event
            try:  # the timeout is for the wait alone: a slow read is not interrupted
                async with asyncio.timeout_at(until):
                    await self.wakeup.wait()
            except TimeoutError:
                return None

    async def read_behind(self) -> None:
        """Read the events that were missed; if Postgres is away, the next poll finds them."""
        cursors = {job: self.cursors[job] for job in self._behind if job in self.cursors}
        try:
            found = await self._feeds.events_after(self.tenant_id, cursors)
        except DatabaseUnavailable as error:
            log.warning("feed.database_unavailable", error=str(error))
            found = {}
        self._behind.clear()
        for events in found.values():
            self._emit(events)

    def _take(self, event: Event) -> None:
        if self.watching_all:
            self.discover([event.job_id])
        cursor = self.cursors.get(event.job_id)
        if cursor is None:
            return
        if event.seq is None:
            self._ready.append(event)
        elif event.seq == cursor + 1:
            self._emit([event])
        elif event.seq > cursor:
            self._behind.add(event.job_id)

    def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._ready.append(event)
            if event.type.terminal:
                self.cursors.pop(event.job_id, None)
                self._note_end(event.job_id)
            else:
                self.cursors[event.job_id] = event.seq or 0

    def _note_end(self, job_id: UUID) -> None:
        """Remember the end for as long as a late event or a poll may name the job."""
        self._unsubscribe(job_id)
        now = monotonic()
        self._ended[job_id] = now
        oldest, ended_at = next(iter(self._ended.items()))
        if now - ended_at > REMEMBER_END_S or len(self._ended) > MAX_ENDED:
            del self._ended[oldest]

    def _subscribe(self, job_id: UUID) -> None:
        if self._subscription.jobs is not None:
            self._subscription.jobs.add(job_id)

    def _unsubscribe(self, job_id: UUID) -> None:
        if self._subscription.jobs is not None:
            self._subscription.jobs.discard(job_id)
