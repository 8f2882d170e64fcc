"""What a worker does with pictures: claim, complete, fail, hand back. One transaction each.

Every end of a claim is fenced by worker and attempt: a worker that lost its lease changes nothing.
So the ends of claims are repeated until Postgres answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from time import monotonic
from uuid import UUID

import structlog

from pipelines.diffusion.batching.cost import Profile
from pipelines.diffusion.request import EngineStats, PromptReading
from pipelines.imaging.critique import Critique
from serve.artist.choice import keep_best
from serve.clock import clock
from serve.database import Database, Session
from serve.events.bus import EventBus
from serve.events.event import Event, EventType
from serve.jobs import transitions
from serve.jobs.job_meter import JobMeter
from serve.jobs.repository import append_event, lock_job
from serve.jobs.request import JobRequest, UnreadableRequest
from serve.observability.meter import UNMETERED, Meter
from serve.observability.tracing import TraceContext
from serve.pictures.stored_file import StoredFile
from serve.settings import DEFAULT_POOL, JobSettings
from serve.tables import Image, JobState, Variant
from serve.worker import repository
from serve.worker.queue import Claim, Judge, Room, Shape, ring_order, take_turns
from serve.worker.repository import any_queued, charge, queues_of, release_image, take_images
from serve.worker.retry import until_connected

log = structlog.get_logger(__name__)

UNREADABLE = "unreadable_job"
"""The ``error_code`` of a job that no worker could read."""

_MOST_COUNTED = 1000
_LOOKS = 20
_LOOK_AGAIN_S = 0.01  # about what another claim takes
UNREADABLE_FOR_S = 30.0
"""How long a job that the worker cannot read is left to others, before it looks again."""


class UnreadableJobs(Exception):
    """Jobs of another version were next, so the claim is rolled back. ``reasons`` are by job."""

    def __init__(self, reasons: Mapping[UUID, str]) -> None:
        super().__init__()
        self.reasons = reasons


class Claims:
    """Claims pictures for a replica, and ends its claims."""

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        models: Sequence[str],
        unread_wait_s: float = JobSettings().unread_wait_s,
        pool: str = DEFAULT_POOL,
        meter: Meter = UNMETERED,
    ) -> None:
        """``models`` are those of the ``pool``, which the replica draws with; they may change.

        A job that it cannot read fails once it has been queued for ``unread_wait_s``.
        """
        self._database = database
        self._bus = bus
        self.models = tuple(models)
        self._first = self.models[0]
        self.pool = pool
        self._job_meter = JobMeter(meter, lambda _: pool)
        self._unread_wait_s = unread_wait_s
        self._unreadable: dict[UUID, float] = {}
        """Jobs that this worker cannot read, and since when."""

    async def register(self, device: str, slots: int) -> UUID:
        """Announce a worker that is ready to draw; its lease starts now."""
        async with self._database.transaction() as session:
            return await repository.insert_worker(session, self.pool, self._first, device, slots)

    async def heartbeat(self, worker_id: UUID, stats: EngineStats, *, draining: bool) -> bool:
        """Renew the lease; False says that it was lost, with every claim under it."""
        async with self._database.transaction() as session:
            return await repository.beat(session, worker_id, asdict(stats), draining, self.models)

    async def report_costs(self, profiles: Mapping[str, Profile], max_batch: int) -> None:
        """Store what the models' pictures cost: new jobs are priced by it."""
        async with self._database.transaction() as session:
            for model, profile in sorted(profiles.items()):
                await repository.keep_profile(session, model, profile, max_batch)

    @until_connected
    async def leave(self, worker_id: UUID) -> None:
        """Delete the worker, which must hold no claim."""
        async with self._database.transaction() as session:
            await repository.delete_worker(session, worker_id)

    async def claim(
        self,
        worker_id: UUID,
        free: int,
        running: Shape | None = None,
        *,
        spare: int = 0,
        holding: int = 0,
        background: int = 0,
        holding_background: int = 0,
    ) -> list[Claim]:
        """Claim up to ``free`` queued pictures for the next step, and ``spare`` for later ones.

        Tenants take turns; within a tenant the order is priority, slack, age, and pictures of the
        ``running`` shape come a little sooner. See `serve.worker.queue`.
        ``holding`` is how many pictures the worker has already. Where only background tenants
        have work it claims up to ``background`` of theirs, beside the ``holding_background``.
        """
        room = Room(free, spare, holding, background, holding_background)
        for _ in range(_LOOKS):
            try:
                claims = await self._claim(worker_id, running, room)
            except UnreadableJobs as error:  # nothing was claimed: claim without those jobs
                await self._pass_by(error.reasons)
                continue
            if claims is not None:
                return claims
            await asyncio.sleep(_LOOK_AGAIN_S)
        return []  # the other claim may hang in its transaction: the next poll looks again

    async def _claim(
        self, worker_id: UUID, running: Shape | None, room: Room
    ) -> list[Claim] | None:
        """The claims; None where other claims have locked all that is queued."""
        passed_by = self._passed_by()
        async with self._database.transaction() as session:
            limit = max(room.places, room.background)
            queues = await queues_of(session, self.models, limit, running, passed_by)
            if not queues:
                return None if await any_queued(session, self.models, passed_by) else []
            background_ids = {queue.tenant_id for queue in queues if queue.is_background}
            if others := [queue for queue in queues if not queue.is_background]:
                queues, limit, free, holding = others, room.places, room.free, room.holding
            else:
                limit, free, holding = room.background, room.background, room.holding_background
            workers, now = await repository.claiming_workers(session, self.pool)
            share = await self._share(session, workers)
            judge = Judge(worker_id, free, holding, share, workers, now)
            chosen = take_turns(queues, limit, judge)
            if not chosen:
                return []
            images = await take_images(session, worker_id, [each.id for each in chosen])
            if not images:  # the lease was lost: the next heartbeat finds out
                return []
            claims, unreadable = _claims_to(worker_id, images, now, background_ids)
            if unreadable:
                raise UnreadableJobs(unreadable)
            events: list[Event] = []
            queued = {image.job_id for image in images if image.job.state is JobState.QUEUED}
            for job in await repository.lock_queued_jobs(session, queued):
                events += await transitions.start(session, job, now)
            if len(queues) > 1:  # one tenant alone has no turns to keep
                await charge(session, ring_order(queues))
        await self._bus.publish(*events)
        return claims

    async def _share(self, session: Session, workers: Sequence[UUID]) -> float:
        """The even share: pictures that are queued or running, by worker."""
        if len(workers) <= 1:
            return math.inf
        live = await repository.count_live(session, self.models, _MOST_COUNTED)
        return math.ceil(live / len(workers)) if live < _MOST_COUNTED else math.inf

    async def excess(self, worker_id: UUID, holding: int) -> int:
        """How many of the pictures that the worker holds would begin sooner with other workers.

        0 while any are queued: the other workers can take those.
        """
        async with self._database.transaction() as session:
            if await any_queued(session, self.models, self._passed_by()):
                return 0
            workers, _ = await repository.claiming_workers(session, self.pool)
            share = await self._share(session, workers)
            elsewhere = await repository.free_places_elsewhere(session, self.pool, worker_id)
        return int(max(0, min(holding - share, elsewhere)))

    async def held(self, worker_id: UUID) -> list[Claim]:
        """The worker's claims as of now; those it lost were cancelled, expired or taken.

        A picture of a job that it cannot read is handed back.
        """
        async with self._database.transaction() as session:
            images = await repository.images_held(session, worker_id)
            now = await clock(session)
            tenants = {image.tenant_id for image in images}
            background = await repository.background_tenants(session, tenants)
            claims, unreadable = _claims_to(worker_id, images, now, background)
        for image in images:
            if image.job_id in unreadable:
                async with self._database.transaction() as session:
                    await lock_job(session, image.job_id)
                    await release_image(
                        session, image.id, image.worker_id, image.attempt, JobState.QUEUED, now
                    )
        await self._pass_by(unreadable)
        return claims

    def _passed_by(self) -> list[UUID]:
        """Jobs to leave to others, for a while: later it may have to fail one."""
        since = monotonic() - UNREADABLE_FOR_S
        self._unreadable = {id_: at for id_, at in self._unreadable.items() if at > since}
        return list(self._unreadable)

    async def _pass_by(self, unreadable: Mapping[UUID, str]) -> None:
        """Leave the jobs to a newer worker; fail those for which none has come in time."""
        for job_id, reason in unreadable.items():
            if not await self._fail_unread(job_id, reason):
                log.warning("worker.job_unreadable", job_id=str(job_id), reason=reason)
                self._unreadable[job_id] = monotonic()

    async def _fail_unread(self, job_id: UUID, reason: str) -> bool:
        """Fail the job if it has waited for too long; whether it has ended."""
        async with self._database.transaction() as session:
            job, now = await lock_job(session, job_id)
            if job.state.terminal:
                return True
            if not await repository.waits_in_vain(session, job_id, self._unread_wait_s):
                return False
            error = (
                f"No worker could read the job: {reason}. A newer version of the service accepted"
                " it; send it again once every worker is of that version."
            )
            events = await transitions.finish(
                session, job, JobState.FAILED, now, error=error, error_code=UNREADABLE
            )
        self._job_meter.ended(job)
        log.warning("worker.unreadable_job_failed", job_id=str(job_id), reason=reason)
        await self._bus.publish(*events)
        return True

    @until_connected
    async def complete(
        self,
        claim: Claim,
        files: Sequence[StoredFile],
        drawing_s: float = 0.0,
        storing_s: float = 0.0,
        reading: PromptReading = PromptReading(),  # noqa: B008 - it is frozen
        *,
        blurhash: str | None = None,
        critique: Critique | None = None,
    ) -> bool:
        """Commit a picture whose files are stored; False says that the claim was lost.

        The event has the seconds that drawing and storing took, and a warning for each prompt that
        was not read to its end. The job keeps the warnings. Of an autonomous job's pictures the
        last one's commit keeps the best.
        """
        warnings = _prompt_warnings(reading)
        async with self._database.transaction() as session:
            job, now = await lock_job(session, claim.job_id)
            ended = await release_image(
                session,
                *claim.fence,
                JobState.SUCCEEDED,
                now,
                blurhash=blurhash,
                critique=critique,
            )
            if not ended:
                return False
            session.add_all(Variant(image_id=claim.image_id, **asdict(file)) for file in files)
            left = await repository.count_live_images(session, job.id)
            events = await transitions.start(session, job, now)
            if job.text_tokens is None:  # all of its pictures have the same prompts
                job.text_tokens, job.warnings = _tokens_read(reading), warnings or None
            data = {
                "image_id": str(claim.image_id),
                "index": claim.index,
                "variants": sorted(file.name for file in files),
                "blurhash": blurhash,
                "drawing_s": round(drawing_s, 4),
                "storing_s": round(storing_s, 4),
                **({"warnings": warnings} if warnings else {}),
            }
            events.append(await append_event(session, job, EventType.IMAGE_SUCCEEDED, data))
            if left == 0:
                verdict = await keep_best(session, job) if claim.request.autonomous else None
                told = {"kept": verdict.kept} if verdict else {}
                events += await transitions.finish(session, job, JobState.SUCCEEDED, now, data=told)
        if left == 0:
            self._job_meter.ended(job)
        await self._bus.publish(*events)
        return True

    @until_connected
    async def fail(self, claim: Claim, reason: str, code: str | None = None) -> bool:
        """Fail the picture and with it the job; False says that the claim was lost.

        ``code`` is the job's ``error_code``, if it has one.
        """
        async with self._database.transaction() as session:
            job, now = await lock_job(session, claim.job_id)
            if not await release_image(session, *claim.fence, JobState.FAILED, now):
                return False
            events = await transitions.start(session, job, now)
            data = {"image_id": str(claim.image_id), "index": claim.index}
            events += await transitions.finish(
                session, job, JobState.FAILED, now, error=reason, error_code=code, data=data
            )
        self._job_meter.ended(job)
        await self._bus.publish(*events)
        return True

    @until_connected
    async def hand_back(self, claim: Claim) -> bool:
        """Queue the picture again, without counting a crash; False says that the claim was lost."""
        async with self._database.transaction() as session:
            _, now = await lock_job(session, claim.job_id)
            kept = await release_image(session, *claim.fence, JobState.QUEUED, now)
        await self._bus.announce_work()
        return kept


def _claims_to(
    worker_id: UUID, images: Sequence[Image], now: datetime, background: Collection[UUID]
) -> tuple[list[Claim], dict[UUID, str]]:
    """The worker's claims to its images, and why jobs cannot be read, by job.

    ``background`` are the tenants that draw there.
    """
    requests, unreadable = {}, {}
    for job in {image.job for image in images}:
        try:
            requests[job.id] = JobRequest.from_params(job.params)
        except UnreadableRequest as error:
            unreadable[job.id] = str(error)
    claims = [
        Claim(
            image_id=image.id,
            job_id=image.job_id,
            tenant_id=image.tenant_id,
            worker_id=worker_id,
            index=image.index,
            attempt=image.attempt,
            request=requests[image.job_id],
            submitted_at=image.job.created_at,
            alone=image.crashes > 0,
            deadline_s=_left(image.job.deadline_at, now),
            waited_s=max(0.0, (now - image.queued_at).total_seconds()),
            trace=TraceContext.of(image.job.traceparent, image.job.tracestate),
            background=image.tenant_id in background,
        )
        for image in sorted(images, key=lambda image: image.id)
        if image.job_id in requests
    ]
    return claims, unreadable


def _left(deadline: datetime | None, now: datetime) -> float | None:
    return None if deadline is None else (deadline - now).total_seconds()


def _tokens_read(reading: PromptReading) -> int | None:
    """Of both prompts; None where it is not known."""
    if reading.prompt is None:
        return None
    return reading.prompt.read + (reading.negative_prompt.read if reading.negative_prompt else 0)


def _prompt_warnings(reading: PromptReading) -> list[dict[str, str]]:
    """What ``jobs.warnings`` keeps of prompts that their model did not read to their ends."""
    texts = {"prompt": reading.prompt, "negative_prompt": reading.negative_prompt}
    return [
        {
            "code": "prompt_truncated",
            "param": name,
            "message": f"{name}: the model's text encoder read the first {text.read} of "
            f"{text.tokens} tokens; the rest had no effect. Shorten it, or say first what matters "
            "most.",
        }
        for name, text in texts.items()
        if text is not None and text.cut
    ]
