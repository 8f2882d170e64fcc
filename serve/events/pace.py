"""How often progress is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from serve.events.subscription import LatestProgress

if TYPE_CHECKING:
    from serve.events.bus import Event

EVERY_S = 0.1
SHARE = 0.25
"""Of the process's time, for the progress of one tenant."""
COST_S = 100e-6
"""What it takes to tell one listener one event (docs/reliability.md)."""
_MOST_REMEMBERED = 10_000


class ProgressPace:
    """Lets durable events pass, and progress ten times a second a job at most, however many
    replicas draw it; more seldom where so many listen that it would leave them no time.

    What comes too early waits, the newest of each picture, pictures of a job by turns. A preview
    waits with it, even when a newer step brings none.
    """

    def __init__(self, tell: Callable[[Event], int]) -> None:
        """``tell`` passes an event on, and returns how many listened."""
        self._tell = tell
        self._job_due: dict[UUID, float] = {}
        self._tenant_due: dict[UUID, float] = {}
        self._waiting = LatestProgress()
        self._timers: dict[UUID, asyncio.TimerHandle] = {}

    def offer(self, event: Event) -> None:
        """Tell it now, or when it is due."""
        if event.seq is not None:
            self._waiting.outdate(event)
            if event.type.terminal:
                self._forget(event.job_id)
            self._tell(event)
            return
        before = self._waiting.of(event)
        if before is not None and "preview" in before.data and "preview" not in event.data:
            event = replace(event, data={**event.data, "preview": before.data["preview"]})
        self._waiting.put(event)
        if event.job_id not in self._timers:
            self._tell_due(event.job_id, event.tenant_id)

    def close(self) -> None:
        """Tell nothing more of what waits."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell_due(self, job_id: UUID, tenant_id: UUID) -> None:
        """Tell one event of the job's, if it is time; look again when it is, if one waits."""
        self._timers.pop(job_id, None)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._due(job_id, tenant_id) and (event := self._waiting.pop(job_id)) is not None:
            listeners = self._tell(event)
            self._job_due[job_id] = now + EVERY_S
            busy_until = max(now, self._tenant_due.get(tenant_id, now))
            self._tenant_due[tenant_id] = busy_until + listeners * COST_S / SHARE
            self._remember_few(now)
        if self._waiting.has(job_id):
            self._timers[job_id] = loop.call_at(
                self._due(job_id, tenant_id), self._tell_due, job_id, tenant_id
            )

    def _due(self, job_id: UUID, tenant_id: UUID) -> float:
        return max(self._job_due.get(job_id, 0.0), self._tenant_due.get(tenant_id, 0.0))

    def _forget(self, job_id: UUID) -> None:
        self._job_due.pop(job_id, None)
        if (timer := self._timers.pop(job_id, None)) is not None:
            timer.cancel()

    def _remember_few(self, now: float) -> None:
        """A job's end may go unheard."""
        for due in (self._job_due, self._tenant_due):
            if len(due) > _MOST_REMEMBERED:
                for name in [name for name, at in due.items() if at <= now]:
                    del due[name]
