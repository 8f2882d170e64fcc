"""Replay from Postgres and live events from Redis, made one stream for one client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from time import monotonic
from uuid import UUID

import structlog

from serve.database import DatabaseUnavailable
from serve.events.bus import Event
from serve.events.errors import JobNotFound
from serve.events.replay import Replay
from serve.events.subscription import Subscription

log = structlog.get_logger(__name__)

MOST_MUTED = 1000
MOST_ENDED = 5000
REMEMBER_END_S = 60.0


class Feed:
    """The events of watched jobs: each durable one once and in order, progress as it comes.

    Live events are hints. One that arrives ahead of its turn shows a gap, which is read from
    Postgres at once; one that does not arrive is brought by the process's `CatchUp`, as another
    hint. For one task at a time; `next` may be cancelled at any point without loss.
    """

    def __init__(self, replay: Replay, subscription: Subscription, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.cursors: dict[UUID, int] = {}
        """The last number told of each watched job."""
        self.watching_all = False
        self._replay = replay
        self._subscription = subscription
        self.bell = subscription.bell
        self._ended: dict[UUID, float] = {}
        self._muted: dict[UUID, None] = {}
        """Unwatched while all others are watched."""
        self._behind: set[UUID] = set()
        self._ready: deque[Event] = deque()
        subscription.jobs = set()

    @property
    def behind(self) -> bool:
        """Whether something was missed, which `read_behind` brings."""
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
        self._hear(job_id)  # before the read: whatever that does not see is heard
        found = await self._replay.after(self.tenant_id, {job_id: after})
        if job_id not in found:
            self._unhear(job_id)
            raise JobNotFound(f"There is no job {job_id}.")
        self._ended.pop(job_id, None)
        self._muted.pop(job_id, None)
        self.cursors[job_id] = after
        self._emit(found[job_id])

    def unwatch(self, job_id: UUID) -> None:
        """Follow a job no longer."""
        self.cursors.pop(job_id, None)
        self._unhear(job_id)
        if self.watching_all:
            self._muted[job_id] = None
            if len(self._muted) > MOST_MUTED:
                del self._muted[next(iter(self._muted))]

    async def watch_all(self) -> None:
        """Follow every job of the tenant that has not ended, and those to come."""
        self._subscription.jobs = None
        live = await self._replay.live(self.tenant_id)
        self.watching_all = True
        self.discover(live)
        self._behind.update(job_id for job_id in live if job_id in self.cursors)

    def discover(self, job_ids: Iterable[UUID]) -> None:
        """Follow these jobs from their start, except those that are followed or have ended."""
        for job_id in job_ids:
            if job_id not in self._ended and job_id not in self._muted:
                self.cursors.setdefault(job_id, 0)

    def offer(self, event: Event) -> None:
        """Another hint, from a poll: one that finds no room comes again with the next."""
        if self._subscription.full:
            return
        if event.seq is not None and event.seq > self.cursors.get(event.job_id, event.seq):
            self._subscription.offer(event)

    def ready(self) -> Event | None:
        """The next event, if it can be told without waiting."""
        while not self._ready and (event := self._subscription.pop()) is not None:
            self._take(event)
        return self._ready.popleft() if self._ready else None

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None once ``timeout_s`` has passed."""
        until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while True:
            self.bell.clear()
            while (event := self.ready()) is None and self._behind:
                await self.read_behind()
            if event is not None:
                return event
            try:  # around the wait alone: a read that is slow is let to its end
                async with asyncio.timeout_at(until):
                    await self.bell.wait()
            except TimeoutError:
                return None

    def _take(self, event: Event) -> None:
        if event.job_id in self._ended or event.job_id in self._muted:
            return
        cursor = self.cursors.get(event.job_id)
        if cursor is None and not self.watching_all:
            return
        if event.seq is None:
            self._ready.append(event)
            return
        cursor = self.cursors.setdefault(event.job_id, 0)
        if event.seq == cursor + 1:
            self._emit([event])
        elif event.seq > cursor:
            self._behind.add(event.job_id)

    async def read_behind(self) -> None:
        """Read what was missed; when Postgres is away, the next poll tells of it again."""
        cursors = {job: self.cursors[job] for job in self._behind if job in self.cursors}
        try:
            found = await self._replay.after(self.tenant_id, cursors)
        except DatabaseUnavailable as error:
            log.warning("feed.database_unavailable", error=str(error))
            found = {}
        self._behind.clear()
        for events in found.values():
            self._emit(events)

    def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._ready.append(event)
            if event.type.terminal:
                self.cursors.pop(event.job_id, None)
                self._note_end(event.job_id)
            else:
                self.cursors[event.job_id] = event.seq or 0

    def _hear(self, job_id: UUID) -> None:
        if self._subscription.jobs is not None:
            self._subscription.jobs.add(job_id)

    def _unhear(self, job_id: UUID) -> None:
        if self._subscription.jobs is not None:
            self._subscription.jobs.discard(job_id)

    def _note_end(self, job_id: UUID) -> None:
        """Remember it for as long as a late hint or a round of discovery may name it."""
        self._unhear(job_id)
        now = monotonic()
        self._ended[job_id] = now
        oldest, ended_at = next(iter(self._ended.items()))
        if now - ended_at > REMEMBER_END_S or len(self._ended) > MOST_ENDED:
            del self._ended[oldest]
