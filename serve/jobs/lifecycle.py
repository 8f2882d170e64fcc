"""What a client may do with jobs: submit, look, wait, cancel. One transaction each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from uuid import UUID

from serve.database import Database, Session
from serve.events import EventBus
from serve.jobs import repository, transitions
from serve.jobs.admission import Admission
from serve.jobs.catch_up import CatchUp
from serve.jobs.errors import (
    IdempotencyConflict,
    ImageNotFound,
    JobFinished,
    JobNotFound,
    Overloaded,
    SourceGone,
)
from serve.jobs.feed import Feed
from serve.jobs.request import JobRequest
from serve.models import Image, Job, JobState, Worker
from serve.settings import Settings


class Jobs:
    """The jobs of every tenant; each call sees one tenant's only."""

    def __init__(self, database: Database, bus: EventBus, settings: Settings) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings
        self.admission = Admission(database, list(settings.served), settings.jobs.max_wait_s)
        self._catch_up = CatchUp(database, bus)

    async def submit(
        self, tenant_id: UUID, request: JobRequest, *, idempotency_key: str | None = None
    ) -> Job:
        """Accept a job. Once this returns, the job survives any crash.

        Raises:
            IdempotencyConflict: the tenant used the key for another request.
            Overloaded: it would wait too long.
            SourceGone: a source that it names is not kept any more.
        """
        try:
            price = await self.admission.admit(request)
        except Overloaded:
            job = await self._accepted_before(tenant_id, request, idempotency_key)
            if job is None:
                raise
            return job
        async with self._database.transaction() as session:
            if not await repository.hold_sources(session, request.sources(tenant_id)):
                raise SourceGone("The picture was swept before its job came; send both again.")
            job = await repository.insert_job(session, tenant_id, request, price, idempotency_key)
            if job is not None:
                event = await transitions.queue(session, job)
                accepted = await self._load(session, tenant_id, job.id)
        if job is None:
            same = await self._accepted_before(tenant_id, request, idempotency_key)
            assert same is not None  # noqa: S101 - only a key can conflict
            return same
        await self._bus.announce_work()
        await self._bus.publish(event)
        return accepted

    async def _accepted_before(
        self, tenant_id: UUID, request: JobRequest, idempotency_key: str | None
    ) -> Job | None:
        """The job that the key stands for already."""
        if idempotency_key is None:
            return None
        async with self._database.transaction() as session:
            job = await repository.job_by_idempotency_key(session, tenant_id, idempotency_key)
            if job is None:
                return None
            if job.request_digest != request.digest():
                raise IdempotencyConflict(
                    "This Idempotency-Key was used for another request; use a new key."
                )
            return await self._load(session, tenant_id, job.id)

    async def get(self, tenant_id: UUID, job_id: UUID) -> Job:
        """The job with its images and their variants.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        async with self._database.transaction() as session:
            return await self._load(session, tenant_id, job_id)

    async def list(self, tenant_id: UUID, *, limit: int, after: UUID | None) -> Sequence[Job]:
        """Jobs older than ``after``, newest first."""
        async with self._database.transaction() as session:
            return await repository.load_jobs(session, tenant_id, limit, after)

    async def cancel(self, tenant_id: UUID, job_id: UUID) -> Job:
        """Stop the job: once this returns, no further picture of it appears.

        Raises:
            JobNotFound: the tenant has no such job.
            JobFinished: it has ended otherwise.
        """
        events = []
        async with self._database.transaction() as session:
            if not await repository.job_exists(session, tenant_id, job_id):
                raise _no_job(job_id)
            job, now = await repository.lock_job(session, job_id)
            if not job.state.terminal:
                events = await transitions.finish(session, job, JobState.CANCELLED, now)
            elif job.state is not JobState.CANCELLED:
                raise JobFinished(f"The job has {job.state}; there is nothing left to cancel.")
            cancelled = await self._load(session, tenant_id, job_id)
        await self._bus.announce_end(job_id)
        await self._bus.publish(*events)
        return cancelled

    async def wait(self, tenant_id: UUID, job_id: UUID, timeout_s: float) -> Job:
        """The job once it has ended, or as it is after ``timeout_s`` seconds."""
        until = monotonic() + timeout_s
        async with self.feed(tenant_id) as feed:
            await feed.watch(job_id)
            while (left := until - monotonic()) > 0:
                event = await feed.next(left)
                if event is not None and event.type.terminal:
                    break
        return await self.get(tenant_id, job_id)

    async def image(self, tenant_id: UUID, image_id: UUID) -> Image:
        """One image with its job and variants.

        Raises:
            ImageNotFound: the tenant has no such image.
        """
        async with self._database.transaction() as session:
            image = await repository.load_image(session, tenant_id, image_id)
        if image is None:
            raise ImageNotFound(f"There is no image {image_id}.")
        return image

    async def images(self, tenant_id: UUID, *, limit: int, after: UUID | None) -> Sequence[Image]:
        """Finished pictures older than ``after``, newest first."""
        async with self._database.transaction() as session:
            return await repository.load_images(session, tenant_id, limit, after)

    async def workers(self) -> Sequence[Worker]:
        """Diffusion replicas with a fresh heartbeat."""
        async with self._database.transaction() as session:
            return await repository.live_workers(session, self._settings.worker.lease_s)

    async def counts(self) -> dict[JobState, int]:
        """Jobs of all tenants by state."""
        async with self._database.transaction() as session:
            return await repository.count_jobs(session)

    @asynccontextmanager
    async def feed(self, tenant_id: UUID) -> AsyncIterator[Feed]:
        """The tenant's events, for one client."""
        async with self._bus.subscribe(tenant_id) as subscription:
            feed = Feed(self._database, subscription, tenant_id)
            async with self._catch_up.joined(feed):
                yield feed

    async def _load(self, session: Session, tenant_id: UUID, job_id: UUID) -> Job:
        await session.flush()
        job = await repository.load_job(session, tenant_id, job_id)
        if job is None:
            raise _no_job(job_id)
        return job


def _no_job(job_id: UUID) -> JobNotFound:
    return JobNotFound(f"There is no job {job_id}.")
