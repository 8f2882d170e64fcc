"""Queries on images: claiming, releasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    String,
    Update,
    Uuid,
    any_,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)

from serve.clock import seconds
from serve.database import Session
from serve.jobs.claim import Claim
from serve.pictures.stored_file import StoredFile
from serve.tables import LIVE, Image, Job, JobState, Variant, Worker

_JOBS_OF = select(Job).where(Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))))
_LOCK_QUEUED = (
    _JOBS_OF.where(Job.state == JobState.QUEUED)
    .with_for_update(skip_locked=True)
    .execution_options(populate_existing=True)
)


async def jobs_of(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    return (await session.scalars(_JOBS_OF, {"job_ids": list(job_ids)})).all()


async def lock_queued_jobs(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    """Jobs still queued. One that another holds is skipped: that other starts or ends it."""
    return (await session.scalars(_LOCK_QUEUED, {"job_ids": list(job_ids)})).all()


def _releasing(since: str) -> Update:
    table = Image.table()
    return (
        update(table)
        .where(
            table.c.id == bindparam("image_id"),
            table.c.state == JobState.RUNNING,
            table.c.worker_id == bindparam("claimed_by"),
            table.c.attempt == bindparam("claimed_as"),
        )
        .values({"state": bindparam("released_as"), "worker_id": None, since: bindparam("now")})
        .returning(table.c.id)
    )


_REQUEUE = _releasing("queued_at")
_END = _releasing("finished_at")


async def release_image(session: Session, claim: Claim, state: JobState, now: datetime) -> bool:
    """End the claim, or False where it is no longer the current one."""
    released = await session.scalar(
        _REQUEUE if state is JobState.QUEUED else _END,
        {
            "image_id": claim.image_id,
            "claimed_by": claim.worker_id,
            "claimed_as": claim.attempt,
            "released_as": state,
            "now": now,
        },
    )
    return released is not None


async def end_images(
    session: Session, job_id: UUID, state: JobState, now: datetime
) -> Sequence[tuple[JobState, float]]:
    """Put every image of the job that has not ended into ``state``.

    Returns what each was before, and its predicted seconds.
    """
    ended = await session.execute(
        update(Image)
        .where(Image.job_id == job_id, Image.state.in_(LIVE))
        .values(state=state, worker_id=None, finished_at=now)
        .returning(literal_column("old.state", String), Image.seconds)
        .execution_options(synchronize_session=False)
    )
    return [(JobState.read(before), device_s) for before, device_s in ended]


async def unfinished_seconds(session: Session, job_id: UUID) -> Sequence[float]:
    """Predicted seconds of each image of the job that has no picture."""
    statement = select(Image.seconds).where(
        Image.job_id == job_id, Image.state != JobState.SUCCEEDED
    )
    return (await session.scalars(statement)).all()


_COUNT_LIVE = select(func.count()).where(Image.job_id == bindparam("job_id"), Image.state.in_(LIVE))


async def count_live_images(session: Session, job_id: UUID) -> int:
    return (await session.scalars(_COUNT_LIVE, {"job_id": job_id})).one()


async def images_held(session: Session, worker_id: UUID) -> Sequence[Image]:
    statement = select(Image).where(Image.worker_id == worker_id, Image.state == JobState.RUNNING)
    return (await session.scalars(statement)).all()


_ADD_VARIANT = insert(Variant.table())


async def add_variants(session: Session, image_id: UUID, files: Sequence[StoredFile]) -> None:
    await session.execute(_ADD_VARIANT, [asdict(file) | {"image_id": image_id} for file in files])


async def waits_in_vain(session: Session, job_id: UUID, wait_s: float) -> bool:
    """Whether an image of the job has been queued for so long, while none of them is drawn."""
    of_job = select(Image.id).where(Image.job_id == job_id)
    overdue = of_job.where(
        Image.state == JobState.QUEUED, Image.queued_at < func.clock_timestamp() - seconds(wait_s)
    )
    drawn = of_job.where(Image.state == JobState.RUNNING)
    return bool(await session.scalar(select(overdue.exists() & ~drawn.exists())))


async def abandoned_images(session: Session) -> Sequence[Image]:
    """Running images whose worker is gone."""
    worker = select(Worker.id).where(Worker.id == Image.worker_id).exists()
    statement = (
        select(Image)
        .where(Image.state == JobState.RUNNING, ~worker)
        .order_by(Image.job_id, Image.index)
    )
    return (await session.scalars(statement)).all()


async def requeue_image(session: Session, image: Image, *, crashed: bool) -> bool:
    """Queue the image again, or False where the claim that was read is no longer the current one.

    ``crashed`` puts a crash on its account: it is drawn alone from now on.
    """
    statement = (
        update(Image)
        .where(
            Image.id == image.id,
            Image.state == JobState.RUNNING,
            Image.worker_id == image.worker_id,
            Image.attempt == image.attempt,
        )
        .values(
            state=JobState.QUEUED,
            worker_id=None,
            crashes=Image.crashes + int(crashed),
            queued_at=func.clock_timestamp(),
        )
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None
