"""Progress that waits: only the newest of each picture is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

from serve.events.event import Event

EVERY_S = 0.1
SHARE = 0.25
"""Of the process's time, for the progress of one tenant."""
COST_S = 100e-6
"""What it takes to send one event to one listener (docs/reliability.md)."""
_MAX_REMEMBERED = 10_000


def ignore_dropped(event: Event) -> None:
    """For a `LatestProgress` whose drops nobody counts."""


class LatestProgress:
    """The newest progress of each picture; ``dropped`` is told of each that was not the newest."""

    def __init__(self, dropped: Callable[[Event], None] = ignore_dropped) -> None:
        self._dropped = dropped
        self._events: dict[tuple[UUID, str | None], Event] = {}

    def put(self, event: Event) -> None:
        """Replace the older progress of the same picture."""
        self._drop((event.job_id, event.image_id))
        self._events[event.job_id, event.image_id] = event

    def pop(self) -> Event | None:
        """The progress of the picture that has waited longest."""
        first = next(iter(self._events), None)
        return None if first is None else self._events.pop(first)

    def drop_older(self, event: Event) -> None:
        """Drop the progress of the event's picture, or of its whole job if the event ends it."""
        if not self._events:
            return
        if event.type.terminal:
            for key in [key for key in self._events if key[0] == event.job_id]:
                self._drop(key)
        else:
            self._drop((event.job_id, event.image_id))

    def _drop(self, key: tuple[UUID, str | None]) -> None:
        older = self._events.pop(key, None)
        if older is not None:
            self._dropped(older)


@dataclass
class _PacedJob:
    tenant_id: UUID
    waiting: dict[str | None, Event] = field(default_factory=dict)
    """The newest progress of each picture."""
    due: float = 0.0
    timed: bool = False
    """Whether a timer is set."""


class ProgressPace:
    """Limits how often progress is sent; durable events pass at once.

    A job's progress is sent ten times a second at most, however many replicas draw the job. It is
    sent less often if so many listen that it would take more than ``SHARE`` of the process's time.

    Progress that comes too early waits. Pictures of one job take turns. A preview waits with its
    picture, even if a newer step brings none.
    """

    def __init__(self, send: Callable[[Event], int]) -> None:
        """``send`` passes an event on, and returns the number of its listeners."""
        self._send = send
        self._jobs: dict[UUID, _PacedJob] = {}
        self._tenant_due: dict[UUID, float] = {}

    def offer(self, event: Event) -> None:
        """Send the event now, or when it is due."""
        if event.seq is not None:
            if event.type.terminal:
                self._forget(event.job_id)
            elif event.job_id in self._jobs:
                self._jobs[event.job_id].waiting.pop(event.image_id, None)
            self._send(event)
            return
        job = self._jobs.setdefault(event.job_id, _PacedJob(event.tenant_id))
        older = job.waiting.get(event.image_id)
        if older is not None and "preview" in older.data and "preview" not in event.data:
            event = replace(event, data={**event.data, "preview": older.data["preview"]})
        job.waiting[event.image_id] = event
        if not job.timed:
            self._send_due(job)

    def close(self) -> None:
        """Send nothing more of what waits."""
        for job_id in list(self._jobs):
            self._forget(job_id)

    def _forget(self, job_id: UUID) -> None:
        if (job := self._jobs.pop(job_id, None)) is not None:
            job.waiting.clear()  # its timer, if there is one, finds nothing to send

    def _send_due(self, job: _PacedJob) -> None:
        """Send one event of the job if it is time, and set a timer if another one waits."""
        job.timed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        if job.waiting and now >= self._due(job):
            listeners = self._send(job.waiting.pop(next(iter(job.waiting))))
            job.due = now + EVERY_S
            busy_until = max(now, self._tenant_due.get(job.tenant_id, now))
            self._tenant_due[job.tenant_id] = busy_until + listeners * COST_S / SHARE
            self._forget_old(now)
        if job.waiting:
            job.timed = True
            loop.call_at(self._due(job), self._send_due, job)

    def _due(self, job: _PacedJob) -> float:
        return max(job.due, self._tenant_due.get(job.tenant_id, 0.0))

    def _forget_old(self, now: float) -> None:
        """Bound the memory: Redis may not bring the end of a job."""
        if len(self._jobs) > _MAX_REMEMBERED:
            for job_id in [
                id_ for id_, job in self._jobs.items() if not job.waiting and job.due <= now
            ]:
                del self._jobs[job_id]
