"""Takes work from silent workers, and ends jobs whose deadline has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable
from serve.events import Event, EventBus
from serve.jobs import repository, transitions
from serve.models import Image, JobState
from serve.settings import Settings

log = structlog.get_logger(__name__)


class Reaper:
    """Runs in every ingress; an advisory lock lets one at a time through."""

    def __init__(self, database: Database, bus: EventBus, settings: Settings) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            try:
                await self.reap()
            except DatabaseUnavailable as error:
                log.warning("reaper.database_unavailable", error=str(error))
            await asyncio.sleep(self._settings.jobs.reap_every_s)

    async def reap(self) -> int:
        """One round; the number of pictures and jobs that changed hands.

        Each of them is a transaction of its own, so that no two jobs are ever locked together. A
        round that is cut short leaves images of workers that are gone, which the next one finds.
        """
        async with self._database.transaction() as session:
            if not await repository.try_reaper_lock(session):
                return 0
            lost = await repository.delete_silent_workers(session, self._settings.worker.lease_s)
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

    async def _alone(self, change: Awaitable[None], job_id: UUID) -> None:
        """One that fails by itself, as a row of another version may, keeps no other waiting."""
        try:
            await change
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("reaper.job_failed", job_id=str(job_id))

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
