"""Takes work from silent workers; ends jobs whose deadline has passed or whose model has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from math import inf
from time import monotonic
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable, Session
from serve.events.bus import EventBus
from serve.events.event import Event
from serve.jobs import transitions
from serve.jobs.job_meter import JobMeter
from serve.jobs.repository import lock_job
from serve.models.repository import jobs_of_removed_models
from serve.observability import tracing
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import PICTURE_CRASHES, WORKERS_REAPED
from serve.observability.tracing import TraceContext
from serve.settings import Settings
from serve.supervise import RoundDone, ignore_round
from serve.tables import Image, Job, JobState
from serve.worker import repository
from serve.worker.repository import REAPER_LOCK, try_lock

log = structlog.get_logger(__name__)

_Change = Callable[[Session, Job, datetime], Awaitable[list[Event] | None]]
"""Changes a locked job; returns its events, if it ended, or None if it was left as it is."""


class Reaper:
    """Runs in every ingress; by an advisory lock one at a time works.

    While Postgres is away no worker can renew its lease. So a worker counts as silent only if this
    reaper itself reached Postgres for as long as a lease lasts
    (docs/decisions/0036-one-database-policy.md).
    """

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        settings: Settings,
        meter: Meter = UNMETERED,
        jobs: JobMeter | None = None,
    ) -> None:
        """``jobs`` records those that it ends; None records none."""
        self._database = database
        self._bus = bus
        self._settings = settings
        self._meter = meter
        self._jobs = jobs
        self._reached_at = -inf
        self._watching_since = -inf

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Reap until cancelled.

        Raises:
            DatabaseUnavailable: run it again.
        """
        while True:
            await self.reap()
            round_done()
            await asyncio.sleep(self._settings.jobs.reap_every_s)

    async def reap(self) -> int:
        """One round; the number of pictures and jobs that changed.

        Each has a transaction of its own, so that no two jobs are ever locked together. If a round
        is cut short, the next one finds the images that are left.
        """
        try:
            return await self._reap()
        except DatabaseUnavailable:
            self._reached_at = -inf
            raise

    async def _reap(self) -> int:
        lease_s = self._settings.worker.lease_s
        async with self._database.transaction() as session:
            first = await try_lock(session, REAPER_LOCK)
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
            removed = await jobs_of_removed_models(session)
        for worker_id in lost:
            log.warning("reaper.worker_lost", worker_id=str(worker_id))
        self._meter.count(WORKERS_REAPED, len(lost))
        for image in abandoned:
            if await self._change(image.job_id, partial(self._requeue, image)):
                self._meter.count(PICTURE_CRASHES)
        for job_id in overdue:
            await self._change(job_id, _expire)
        for job_id in removed:
            await self._change(job_id, _fail_without_model)
        if abandoned:
            await self._bus.announce_work()
        return len(abandoned) + len(overdue) + len(removed)

    def _watched_s(self) -> float:
        """Seconds for which Postgres was reached without a gap, up to now."""
        now = monotonic()
        if now - self._reached_at > self._settings.worker.lease_s / 2:
            self._watching_since = now
        self._reached_at = now
        return now - self._watching_since

    async def _change(self, job_id: UUID, change: _Change) -> bool:
        """Whether anything changed.

        An error of one job, as a row of another version may cause, does not stop the round.
        """
        events = None
        with structlog.contextvars.bound_contextvars(job_id=str(job_id)):
            try:
                async with self._database.transaction() as session:
                    job, now = await lock_job(session, job_id)
                    events = await change(session, job, now)
                if events:
                    log.warning(
                        "reaper.job_ended",
                        tenant_id=str(job.tenant_id),
                        state=job.state,
                        error=job.error,
                    )
                    if self._jobs is not None:
                        self._jobs.ended(job)
                    await self._bus.publish(*events)
            except DatabaseUnavailable:
                raise
            except Exception:
                log.exception("reaper.failed")
        self._reached_at = monotonic()
        return events is not None

    async def _requeue(
        self, image: Image, session: Session, job: Job, now: datetime
    ) -> list[Event] | None:
        crashes = image.crashes + 1
        requeued = await repository.release_image(
            session, image.id, image.worker_id, image.attempt, JobState.QUEUED, now, crashed=True
        )
        if not requeued:
            return None
        _record_loss(image, job, now)
        log.warning(
            "reaper.picture_taken",
            image_id=str(image.id),
            tenant_id=str(image.tenant_id),
            worker_id=str(image.worker_id),
            attempt=image.attempt,
            crashes=crashes,
            **tracing.ids_of(TraceContext.of(job.traceparent)),
        )
        if crashes < self._settings.jobs.max_crashes:
            return []
        error = f"Picture {image.index} was lost with its worker {crashes} times: giving up."
        return await transitions.finish(session, job, JobState.FAILED, now, error=error)


def _record_loss(image: Image, job: Job, now: datetime) -> None:
    """The span of the attempt: the worker that drew it cannot record it any more."""
    span = tracing.begin(
        "picture",
        TraceContext.of(job.traceparent, job.tracestate),
        monotonic() - (now - image.queued_at).total_seconds(),
        attributes={
            "sfumato.job.id": str(job.id),
            "sfumato.image.id": str(image.id),
            "sfumato.worker.id": str(image.worker_id),
            "sfumato.attempt": image.attempt,
            "sfumato.model": image.model,
            "sfumato.width": image.width,
            "sfumato.height": image.height,
            "sfumato.outcome": "lost",
        },
    )
    tracing.fail(span, "worker_lost")
    span.end()


async def _expire(session: Session, job: Job, now: datetime) -> list[Event] | None:
    if job.state.terminal:
        return None
    error = "The deadline passed before every picture was drawn."
    return await transitions.finish(session, job, JobState.EXPIRED, now, error=error)


async def _fail_without_model(session: Session, job: Job, now: datetime) -> list[Event] | None:
    if job.state.terminal:
        return None
    error = f"The model {job.model!r} was removed; send the job again with another."
    return await transitions.finish(
        session, job, JobState.FAILED, now, error=error, error_code="model_removed"
    )
