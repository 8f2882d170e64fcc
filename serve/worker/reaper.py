"""Takes work from silent workers, and ends jobs whose deadline has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from math import inf
from time import monotonic
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable
from serve.events.bus import EventBus
from serve.events.event import Event
from serve.jobs import repository, transitions
from serve.settings import Settings
from serve.supervise import Turned, untold
from serve.tables import Image, JobState
from serve.worker.repository.locks import try_reaper_lock

log = structlog.get_logger(__name__)


class Reaper:
    """Runs in every ingress; an advisory lock lets one at a time through.

    Nobody is heard while Postgres is away, so a worker is silent only if this reaper itself reached
    Postgres all through its lease (docs/decisions/0036-one-database-policy.md).
    """

    def __init__(self, database: Database, bus: EventBus, settings: Settings) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings
        self._reached_at = -inf
        self._watching_since = -inf

    async def run(self, turned: Turned = untold) -> None:
        """Reap until cancelled.

        Raises:
            DatabaseUnavailable: run it again.
        """
        while True:
            await self.reap()
            turned()
            await asyncio.sleep(self._settings.jobs.reap_every_s)

    async def reap(self) -> int:
        """One round; the number of pictures and jobs that changed hands.

        Each of them is a transaction of its own, so that no two jobs are ever locked together. A
        round that is cut short leaves images of workers that are gone, which the next one finds.
        """
        try:
            return await self._reap()
        except DatabaseUnavailable:
            self._reached_at = -inf
            raise

    async def _reap(self) -> int:
        lease_s = self._settings.worker.lease_s
        async with self._database.transaction() as session:
            first = await try_reaper_lock(session)
            watched_s = self._watched_s()
            if not first:
                return 0
            lost = (
                await repository.delete_silent_workers(session, lease_s)
                if watched_s >= lease_s
                else []
            )
            abandoned = await repository.abandoned_images(session)
            overdue = await repository.overdue_jobs(session)
        if lost:
            log.warning("reaper.workers_lost", workers=len(lost), images=len(abandoned))
        for image in abandoned:
            await self._alone(self._take(image), image.job_id)
        for job_id in overdue:
            await self._alone(self._expire(job_id), job_id)
        if abandoned:
            await self._bus.announce_work()
        return len(abandoned) + len(overdue)

    def _watched_s(self) -> float:
        """Seconds for which Postgres was reached without a gap; it was reached just now."""
        now = monotonic()
        if now - self._reached_at > self._settings.worker.lease_s / 2:
            self._watching_since = now
        self._reached_at = now
        return now - self._watching_since

    async def _alone(self, change: Awaitable[None], job_id: UUID) -> None:
        """One that fails by itself, as a row of another version may, keeps no other waiting."""
        try:
            await change
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("reaper.job_failed", job_id=str(job_id))
        self._reached_at = monotonic()

    async def _take(self, image: Image) -> None:
        events: list[Event] = []
        async with self._database.transaction() as session:
            job, now = await repository.lock_job(session, image.job_id)
            crashes = image.crashes + 1
            if (
                await repository.requeue_image(session, image, crashed=True)
                and crashes >= self._settings.jobs.max_crashes
            ):
                error = (
                    f"Picture {image.index} was lost with its worker {crashes} times: giving up."
                )
                events = await transitions.finish(session, job, JobState.FAILED, now, error=error)
        if events:
            await self._bus.announce_end(job.id)
        await self._bus.publish(*events)

    async def _expire(self, job_id: UUID) -> None:
        events: list[Event] = []
        async with self._database.transaction() as session:
            job, now = await repository.lock_job(session, job_id)
            if not job.state.terminal:
                error = "The deadline passed before every picture was drawn."
                events = await transitions.finish(session, job, JobState.EXPIRED, now, error=error)
        if events:
            await self._bus.announce_end(job_id)
        await self._bus.publish(*events)
