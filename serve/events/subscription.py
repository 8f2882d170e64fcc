"""What waits for one listener, within bounds: progress gives way, durable events never do."""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from serve.events.bus import Event


class LatestProgress:
    """Progress that waits: the newest of each picture."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, dict[str | None, Event]] = {}

    def put(self, event: Event) -> None:
        """Keep this progress in the place of the picture's older one."""
        self._by_job.setdefault(event.job_id, {})[event.image_id] = event

    def of(self, event: Event) -> Event | None:
        """What waits of the same picture."""
        return self._by_job.get(event.job_id, {}).get(event.image_id)

    def has(self, job_id: UUID) -> bool:
        """Whether anything of the job waits."""
        return job_id in self._by_job

    def pop(self, job_id: UUID | None = None) -> Event | None:
        """The progress of the picture that has waited longest, of this job or of any."""
        job_id = job_id or next(iter(self._by_job), None)
        if job_id is None or job_id not in self._by_job:
            return None
        pictures = self._by_job[job_id]
        event = pictures[next(iter(pictures))]
        self.outdate(event)
        return event

    def outdate(self, event: Event) -> None:
        """Drop what is older than this event: of its picture, or of its job where that ended."""
        if event.type.terminal:
            self._by_job.pop(event.job_id, None)
        elif pictures := self._by_job.get(event.job_id):
            pictures.pop(event.image_id, None)
            if not pictures:
                del self._by_job[event.job_id]


class Subscription:
    """A bounded queue of one listener.

    Holding ``limit`` events, it keeps only the newest progress of each picture, and tells that
    once the rest was read. Durable events are never dropped: a listener that lets ``limit`` of
    them pile up has lost the thread, ``overrun`` is set, and it should be closed.
    """

    def __init__(
        self, limit: int = 256, turn: Callable[[Callable[[], None]], None] = operator.call
    ) -> None:
        """``turn`` is given what rings the bell with every offer, to be called at once or in its
        turn."""
        self.overrun = False
        self.jobs: set[UUID] | None = None
        """Hears of these alone; None hears of every job of the tenant."""
        self._limit = limit
        self._turn = turn
        self.bell = asyncio.Event()
        """Rung after every offer. Who waits for it clears it, and then looks for all that is there;
        others may ring it too, so that one wait serves several causes."""
        self._events: deque[Event] = deque()
        self._later = LatestProgress()

    @property
    def full(self) -> bool:
        """Whether ``limit`` events wait: what can come again should."""
        return len(self._events) >= self._limit

    def offer(self, event: Event) -> bool:
        """Queue it, if it is listened for; whether it is."""
        if self.overrun or (self.jobs is not None and event.job_id not in self.jobs):
            return False
        if event.seq is None and self.full:
            self._later.put(event.without_preview)
        elif len(self._events) >= 2 * self._limit:
            self.overrun = True
        else:
            self._later.outdate(event)
            self._events.append(event)
        self._turn(self.bell.set)
        return True

    def pop(self) -> Event | None:
        """The next event, if there is one."""
        return self._events.popleft() if self._events else self._later.pop()
