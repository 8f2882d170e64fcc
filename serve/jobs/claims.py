"""What a worker may do with pictures: claim, complete, fail, hand back. One transaction each.

Every end of a claim is fenced by worker and attempt: a worker that lost its lease changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from pipelines.diffusion.request import EngineStats
from serve.database import Database, Session
from serve.events import Event, EventBus, EventType
from serve.jobs import repository, transitions
from serve.jobs.claim import Claim
from serve.jobs.request import JobRequest
from serve.jobs.stored_file import StoredFile
from serve.models import Image, JobState


class Claims:
    """The claims of a replica's pictures."""

    def __init__(self, database: Database, bus: EventBus, models: Sequence[str]) -> None:
        """``models`` are those that the replica draws with; it is known by the first."""
        self._database = database
        self._bus = bus
        self._models = models

    async def register(self, device: str, slots: int) -> UUID:
        """Announce a worker that is ready to draw; its lease starts now."""
        async with self._database.transaction() as session:
            return await repository.insert_worker(session, self._models[0], device, slots)

    async def heartbeat(self, worker_id: UUID, stats: EngineStats, *, draining: bool) -> bool:
        """Renew the lease; False says that it was lost, with every claim under it."""
        async with self._database.transaction() as session:
            return await repository.beat(session, worker_id, asdict(stats), draining)

    async def leave(self, worker_id: UUID) -> None:
        """Take the worker off the list; it must hold nothing any more."""
        async with self._database.transaction() as session:
            await repository.delete_worker(session, worker_id)

    async def claim(
        self, worker_id: UUID, limit: int, shape: tuple[int, int] | None = None
    ) -> list[Claim]:
        """Up to ``limit`` queued pictures, those of ``shape`` (width, height) first."""
        async with self._database.transaction() as session:
            images = await repository.claim_images(session, worker_id, self._models, limit, shape)
            if not images:
                return []
            job_ids = {image.job_id for image in images}
            now = await repository.clock(session)
            events: list[Event] = []
            for job in await repository.lock_queued_jobs(session, job_ids):
                events += await transitions.start(session, job, now)
            claims = await self._claims_to(session, images)
        await self._bus.publish(*events)
        return claims

    async def held(self, worker_id: UUID) -> list[Claim]:
        """What is the worker's now; the rest was cancelled, expired or taken."""
        async with self._database.transaction() as session:
            images = await repository.images_held(session, worker_id)
            return await self._claims_to(session, images)

    async def _claims_to(self, session: Session, images: Sequence[Image]) -> list[Claim]:
        jobs = await repository.jobs_of(session, {image.job_id for image in images})
        return [
            Claim(
                image_id=image.id,
                job_id=image.job_id,
                tenant_id=image.tenant_id,
                worker_id=image.worker_id,
                index=image.index,
                attempt=image.attempt,
                request=JobRequest.from_params(jobs[image.job_id].params),
            )
            for image in sorted(images, key=lambda image: image.id)
            if image.worker_id is not None
        ]

    async def complete(self, claim: Claim, files: Sequence[StoredFile]) -> bool:
        """Commit a picture whose files are stored; False says that the claim was lost."""
        async with self._database.transaction() as session:
            job, now = await repository.lock_job(session, claim.job_id)
            if not await repository.release_image(session, claim, JobState.SUCCEEDED, now):
                return False
            await repository.add_variants(session, claim.image_id, files)
            events = await transitions.start(session, job, now)
            told = {
                "image_id": str(claim.image_id),
                "index": claim.index,
                "variants": sorted(file.name for file in files),
            }
            events.append(
                await repository.append_event(session, job, EventType.IMAGE_SUCCEEDED, told)
            )
            if await repository.count_live_images(session, job.id) == 0:
                events += await transitions.finish(session, job, JobState.SUCCEEDED, now)
        await self._bus.publish(*events)
        return True

    async def fail(self, claim: Claim, reason: str) -> bool:
        """Fail the picture and with it the job; False says that the claim was lost."""
        async with self._database.transaction() as session:
            job, now = await repository.lock_job(session, claim.job_id)
            if not await repository.release_image(session, claim, JobState.FAILED, now):
                return False
            events = await transitions.start(session, job, now)
            told = {"image_id": str(claim.image_id), "index": claim.index}
            events += await transitions.finish(
                session, job, JobState.FAILED, now, error=reason, data=told
            )
        await self._bus.announce_work()  # other workers may hold the job's other pictures
        await self._bus.publish(*events)
        return True

    async def hand_back(self, claim: Claim) -> bool:
        """Queue the picture again without a crash on its account; False: the claim was lost."""
        async with self._database.transaction() as session:
            _, now = await repository.lock_job(session, claim.job_id)
            kept = await repository.release_image(session, claim, JobState.QUEUED, now)
        await self._bus.announce_work()
        return kept
