"""Progress that waits: only the newest of each picture is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from serve.events.event import Event

EVERY_S = 0.1
SHARE = 0.25
"""Of the process's time, for the progress of one tenant."""
COST_S = 100e-6
"""What it takes to send one event to one listener (docs/reliability.md)."""
_MAX_REMEMBERED = 10_000


class LatestProgress:
    """The newest progress of each picture."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, dict[str | None, Event]] = {}

    def put(self, event: Event) -> None:
        """Replace the older progress of the same picture."""
        self._by_job.setdefault(event.job_id, {})[event.image_id] = event

    def get(self, job_id: UUID, image_id: str | None) -> Event | None:
        return self._by_job.get(job_id, {}).get(image_id)

    def has(self, job_id: UUID) -> bool:
        """Whether progress of the job waits."""
        return job_id in self._by_job

    def pop(self, job_id: UUID | None = None) -> Event | None:
        """The progress of the picture that has waited longest, of this job or of any."""
        job_id = job_id or next(iter(self._by_job), None)
        if job_id is None or job_id not in self._by_job:
            return None
        pictures = self._by_job[job_id]
        event = pictures[next(iter(pictures))]
        self.drop_older(event)
        return event

    def drop_older(self, event: Event) -> None:
        """Drop the progress of the event's picture, or of its whole job if the event ends it."""
        if event.type.terminal:
            self._by_job.pop(event.job_id, None)
        elif pictures := self._by_job.get(event.job_id):
            pictures.pop(event.image_id, None)
            if not pictures:
                del self._by_job[event.job_id]


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
        self._job_due: dict[UUID, float] = {}
        self._tenant_due: dict[UUID, float] = {}
        self._waiting = LatestProgress()
        self._timers: dict[UUID, asyncio.TimerHandle] = {}

    def offer(self, event: Event) -> None:
        """Send the event now, or when it is due."""
        if event.seq is not None:
            self._waiting.drop_older(event)
            if event.type.terminal:
                self._forget(event.job_id)
            self._send(event)
            return
        older = self._waiting.get(event.job_id, event.image_id)
        if older is not None and "preview" in older.data and "preview" not in event.data:
            event = replace(event, data={**event.data, "preview": older.data["preview"]})
        self._waiting.put(event)
        if event.job_id not in self._timers:
            self._send_due(event.job_id, event.tenant_id)

    def close(self) -> None:
        """Send nothing more of what waits."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _send_due(self, job_id: UUID, tenant_id: UUID) -> None:
        """Send one event of the job if it is time, and set a timer if another one waits."""
        self._timers.pop(job_id, None)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._due(job_id, tenant_id) and (event := self._waiting.pop(job_id)) is not None:
            listeners = self._send(event)
            self._job_due[job_id] = now + EVERY_S
            busy_until = max(now, self._tenant_due.get(tenant_id, now))
            self._tenant_due[tenant_id] = busy_until + listeners * COST_S / SHARE
            self._forget_old(now)
        if self._waiting.has(job_id):
            self._timers[job_id] = loop.call_at(
                self._due(job_id, tenant_id), self._send_due, job_id, tenant_id
            )

    def _due(self, job_id: UUID, tenant_id: UUID) -> float:
        return max(self._job_due.get(job_id, 0.0), self._tenant_due.get(tenant_id, 0.0))

    def _forget(self, job_id: UUID) -> None:
        self._job_due.pop(job_id, None)
        if (timer := self._timers.pop(job_id, None)) is not None:
            timer.cancel()

    def _forget_old(self, now: float) -> None:
        """Bound the memory: Redis may not bring the end of a job."""
        for due in (self._job_due, self._tenant_due):
            if len(due) > _MAX_REMEMBERED:
                for name in [name for name, at in due.items() if at <= now]:
                    del due[name]
