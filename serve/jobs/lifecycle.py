"""What a client may do with jobs: submit, read, wait, cancel. One transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic
from uuid import UUID

from structlog.contextvars import bind_contextvars

from serve.database import Database, Session
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.events.feed import Feeds, JobNotFound
from serve.events.repository import existing_jobs
from serve.jobs import repository, transitions
from serve.jobs.admission import Admission
from serve.jobs.autonomous import Check
from serve.jobs.census import Census, take_census
from serve.jobs.errors import IdempotencyConflict, JobFinished, JobUnended, SourceGone
from serve.jobs.job_meter import JobMeter
from serve.jobs.request import JobRequest
from serve.jobs.why import Why
from serve.moderation.moderation import Moderation
from serve.observability import tracing
from serve.observability.logging import hide
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import CACHE_LOOKUPS
from serve.pictures.pictures import remove_files
from serve.pictures.repository import delete_pictures, hold_sources
from serve.settings import Settings
from serve.storage import Storage
from serve.tables import Job, JobState, Worker
from serve.trends.repository import note
from serve.trends.signal import SignalKind


class _KeyUsed(Exception):
    """The tenant used the Idempotency-Key before."""


class Jobs:
    """The jobs of every tenant; each call sees one tenant's only."""

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        storage: Storage,
        settings: Settings,
        meter: Meter = UNMETERED,
    ) -> None:
        self._database = database
        self._bus = bus
        self._storage = storage
        self._settings = settings
        self.feeds = Feeds(database, bus)
        self.admission = Admission(database, settings, meter)
        self.meter = JobMeter(meter, self.admission.pool_of)
        self._lookups = meter
        self._moderation = Moderation(settings.moderation)

    async def submit(
        self,
        tenant_id: UUID,
        request: JobRequest,
        *,
        idempotency_key: str | None = None,
        reuse: bool = False,
        why: Why | None = None,
        check: Check | None = None,
    ) -> Job:
        """Accept a job. Once this returns, the job survives any crash.

        A request that was accepted before under the same key gets the same job again, whatever the
        limits are by now. With ``reuse`` a job of the tenant that has the same pictures is as good.
        ``why`` and ``check`` are the artist's.

        Raises:
            IdempotencyConflict: the tenant used the key for another request.
            InsufficientQuota: the tenant's month is used up.
            RateLimitExceeded: the tenant asks for too much at a time.
            Overloaded: the job's turn would come too late.
            ContentPolicyViolation: its prompts may not be drawn.
            ModerationUnavailable: that could not be found out.
            SourceGone: a source that it names is not kept any more.
            Exception: whatever ``check`` raises.
        """
        self.screen(request)
        if (await self.admission.rates.tenants.of(tenant_id)).withhold_prompts:
            request = replace(request, withhold_prompt=True)
        recipe = request.recipe(self.admission.path_of.get(request.model, ""))
        if reuse and (drawn := await self._drawn_before(tenant_id, recipe, idempotency_key)):
            return drawn
        try:
            async with self.admission.reserve(tenant_id, request) as reservation:
                await self._moderation.judge_prompt(request.prompt)
                if request.theme:
                    await self._moderation.judge_prompt(request.theme, "theme")
                async with self._database.transaction() as session:
                    if check is not None:
                        await check(session, reservation.job.seconds)
                    if not await hold_sources(session, [*request.sources(tenant_id).values()]):
                        raise SourceGone(
                            "The picture was swept before its job came; send it again."
                        )
                    price = reservation.job.price
                    job = await repository.insert_job(
                        session,
                        tenant_id,
                        request,
                        price,
                        idempotency_key,
                        recipe,
                        tracing.current(),
                        why,
                    )
                    if job is None:
                        raise _KeyUsed  # noqa: TRY301 - what is reserved is given back
                    data = {"n": job.n, "model": job.model, "prompt": job.prompt}
                    event = await repository.append_event(session, job, EventType.QUEUED, data)
                    await self.admission.ledger.charge(session, job, reservation.job.seconds)
                    if not (request.withhold_prompt or request.autonomous):
                        await note(session, job.id, SignalKind.ASKED)
                reservation.accepted = True
            bind_contextvars(job_id=str(job.id))
        except (*Admission.REFUSALS, _KeyUsed) as refusal:
            if accepted := await self.accepted(tenant_id, request, idempotency_key, refusal):
                return accepted
            raise
        self.meter.submitted(job)
        await self._bus.publish(event)
        return job

    async def precheck(
        self, tenant_id: UUID, request: JobRequest, *, idempotency_key: str | None = None
    ) -> None:
        """Check that `submit` would let the job in by now, before any work is put into it.

        Nothing is taken, and the request's sources need not be known yet. A key that was used
        before passes: only `submit` can compare the two requests, once the sources are known.

        Raises:
            InsufficientQuota, RateLimitExceeded, Overloaded: it would not.
            ContentPolicyViolation: its prompts are on the block-list.
        """
        self.screen(request)
        try:
            await self.admission.precheck(tenant_id, request)
        except Admission.REFUSALS:
            if await self._accepted_before(tenant_id, idempotency_key) is None:
                raise

    async def accepted(
        self,
        tenant_id: UUID,
        request: JobRequest,
        idempotency_key: str | None,
        cause: BaseException | None = None,
    ) -> Job | None:
        """The job that was accepted under the key.

        Raises:
            IdempotencyConflict: it was for another request.
        """
        accepted = await self._accepted_before(tenant_id, idempotency_key)
        if accepted is not None and accepted.request_digest != request.digest():
            raise IdempotencyConflict(
                "This Idempotency-Key was used for another request; use a new key."
            ) from cause
        return accepted

    def screen(self, request: JobRequest) -> None:
        """Raises ContentPolicyViolation where a text is on the block-list."""
        theme = request.theme or ""
        hide(request.prompt, request.negative_prompt, theme)
        self._moderation.screen(request.prompt, request.negative_prompt, theme)

    async def _accepted_before(self, tenant_id: UUID, idempotency_key: str | None) -> Job | None:
        """The job that the key stands for already."""
        if idempotency_key is None:
            return None
        async with self._database.transaction() as session:
            job = await repository.job_by_idempotency_key(session, tenant_id, idempotency_key)
            return await _load(session, tenant_id, job.id) if job else None

    async def _drawn_before(
        self, tenant_id: UUID, recipe: bytes, idempotency_key: str | None
    ) -> Job | None:
        """A finished job with the same pictures, unless the key stands for a job."""
        async with self._database.transaction() as session:
            if idempotency_key is not None and await repository.job_by_idempotency_key(
                session, tenant_id, idempotency_key
            ):
                return None
            found = await repository.job_by_recipe(session, tenant_id, recipe)
            job = await _load(session, tenant_id, found) if found else None
        self._lookups.count(CACHE_LOOKUPS, cache="pictures", result="hit" if job else "miss")
        return job

    async def get(self, tenant_id: UUID, job_id: UUID) -> Job:
        """The job with its images and their variants.

        Raises:
            JobNotFound: the tenant has no such job.
        """
        async with self._database.transaction() as session:
            return await _load(session, tenant_id, job_id)

    async def list(
        self,
        tenant_id: UUID,
        *,
        limit: int,
        after: UUID | None,
        state: JobState | None = None,
        model: str | None = None,
    ) -> Sequence[Job]:
        """Jobs older than ``after``, newest first; of that state and model, where given."""
        async with self._database.transaction() as session:
            return await repository.load_jobs(session, tenant_id, limit, after, state, model)

    async def cancel(self, tenant_id: UUID, job_id: UUID) -> Job:
        """Stop the job: once this returns, no further picture of it appears.

        Raises:
            JobNotFound: the tenant has no such job.
            JobFinished: it has ended otherwise.
        """
        events = []
        async with self._database.transaction() as session:
            job, now = await _lock(session, tenant_id, job_id)
            if not job.state.terminal:
                events = await transitions.finish(session, job, JobState.CANCELLED, now)
            elif job.state is not JobState.CANCELLED:
                raise JobFinished(f"The job has {job.state}; there is nothing left to cancel.")
            cancelled = await _load(session, tenant_id, job_id)
        if events:
            self.meter.ended(cancelled)
        await self._bus.publish(*events)
        return cancelled

    async def delete_pictures(self, tenant_id: UUID, job_id: UUID) -> None:
        """Delete every picture of the job, with their files; repeating it is harmless.

        Raises:
            JobNotFound: the tenant has no such job.
            JobUnended: it may still get pictures.
        """
        async with self._database.transaction() as session:
            job, _ = await _lock(session, tenant_id, job_id)  # so that two take turns
            if not job.state.terminal:
                raise JobUnended(
                    f"The job is {job.state}; cancel it with DELETE /v1/jobs/{job_id}, or wait."
                )
            keys = await delete_pictures(session, job_id=job_id)
        await remove_files(self._storage, keys)

    async def wait(self, tenant_id: UUID, job_id: UUID, timeout_s: float) -> Job:
        """The job once it has ended, or as it is after ``timeout_s`` seconds."""
        until = monotonic() + timeout_s
        async with self.feeds.open(tenant_id) as feed:
            await feed.watch(job_id)
            while (left := until - monotonic()) > 0:
                event = await feed.next(left)
                if event is not None and event.type.terminal:
                    break
        return await self.get(tenant_id, job_id)

    async def workers(self) -> Sequence[Worker]:
        """Diffusion replicas with a fresh heartbeat."""
        async with self._database.transaction() as session:
            return await repository.live_workers(session, self._settings.worker.lease_s)

    async def census(self) -> Census:
        """Of all tenants together."""
        return await take_census(self._database)


async def _load(session: Session, tenant_id: UUID, job_id: UUID) -> Job:
    bind_contextvars(job_id=str(job_id))
    await session.flush()
    job = await repository.load_job(session, tenant_id, job_id)
    if job is None:
        raise _no_job(job_id)
    return job


async def _lock(session: Session, tenant_id: UUID, job_id: UUID) -> tuple[Job, datetime]:
    bind_contextvars(job_id=str(job_id))
    if not await existing_jobs(session, [(tenant_id, job_id)]):
        raise _no_job(job_id)
    return await repository.lock_job(session, job_id)


def _no_job(job_id: UUID) -> JobNotFound:
    return JobNotFound(f"There is no job {job_id}.")
