"""Replay from Postgres and live events from Redis, made one stream for one client."""

from __future__ import annotations

from collections import deque
from time import monotonic
from uuid import UUID

from serve.database import Database
from serve.events import Event, Subscription
from serve.jobs import repository
from serve.jobs.errors import JobNotFound

CATCH_UP_S = 2.0
_MOST_JOBS = 1000


class Feed:
    """The events of watched jobs: each durable one once and in order, progress as it comes.

    Live events are hints. One that arrives ahead of its turn, or does not arrive, is read from
    Postgres: at once where a gap shows, and every two seconds in any case. For one task at a time.
    """

    def __init__(self, database: Database, subscription: Subscription, tenant_id: UUID) -> None:
        self._database = database
        self._subscription = subscription
        self._tenant_id = tenant_id
        self._cursors: dict[UUID, int] = {}
        self._ended: dict[UUID, None] = {}
        self._ready: deque[Event] = deque()
        self._watching_all = False
        self._catch_up_at = monotonic() + CATCH_UP_S

    @property
    def overrun(self) -> bool:
        """Whether the client reads too slowly to be kept."""
        return self._subscription.overrun

    async def watch(self, job_id: UUID, after: int = 0) -> None:
        """Follow a job from event ``after`` + 1 on.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        async with self._database.transaction() as session:
            if not await repository.job_exists(session, self._tenant_id, job_id):
                raise JobNotFound(f"There is no job {job_id}.")
        self._ended.pop(job_id, None)
        self._cursors[job_id] = after
        await self._read({job_id: after})

    def unwatch(self, job_id: UUID) -> None:
        """Follow a job no longer."""
        self._cursors.pop(job_id, None)
        self._note_end(job_id)

    def watch_all(self) -> None:
        """Follow every job of the tenant that has not ended, and those to come."""
        self._watching_all = True
        self._catch_up_at = monotonic()

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None once ``timeout_s`` has passed."""
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            if self._ready:
                return self._ready.popleft()
            now = monotonic()
            if until is not None and now >= until:
                return None
            wait = max(0.0, self._catch_up_at - now)
            event = await self._subscription.get(wait if until is None else min(wait, until - now))
            if event is not None:
                await self._take(event)
            if monotonic() >= self._catch_up_at:
                await self._catch_up()

    async def _take(self, event: Event) -> None:
        if event.job_id in self._ended:
            return
        cursor = self._cursors.get(event.job_id)
        if cursor is None:
            if not self._watching_all:
                return
            cursor = 0
        if event.seq is None:
            self._ready.append(event)
        elif event.seq == cursor + 1:
            self._emit(event)
        elif event.seq > cursor:
            await self._read({event.job_id: cursor})

    async def _catch_up(self) -> None:
        self._catch_up_at = monotonic() + CATCH_UP_S
        if self._watching_all:
            async with self._database.transaction() as session:
                live = await repository.live_jobs(session, self._tenant_id, _MOST_JOBS)
            for job_id in live:
                if job_id not in self._ended:
                    self._cursors.setdefault(job_id, 0)
        await self._read(self._cursors)

    async def _read(self, cursors: dict[UUID, int]) -> None:
        async with self._database.transaction() as session:
            events = await repository.events_after(session, self._tenant_id, cursors)
        for event in events:
            self._emit(event)

    def _emit(self, event: Event) -> None:
        self._ready.append(event)
        self._cursors[event.job_id] = event.seq or 0
        if event.type.terminal:
            del self._cursors[event.job_id]
            self._note_end(event.job_id)

    def _note_end(self, job_id: UUID) -> None:
        self._ended[job_id] = None
        if len(self._ended) > _MOST_JOBS:
            del self._ended[next(iter(self._ended))]
