"""Queries on images: claiming, releasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    String,
    func,
    literal_column,
    select,
    update,
)

from serve.database import Session
from serve.jobs.claim import Claim
from serve.jobs.stored_file import StoredFile
from serve.models import LIVE, Image, Job, JobState, Variant, Worker


async def jobs_of(session: Session, job_ids: set[UUID]) -> dict[UUID, Job]:
    rows = await session.scalars(select(Job).where(Job.id.in_(job_ids)))
    return {job.id: job for job in rows}


async def lock_queued_jobs(session: Session, job_ids: set[UUID]) -> Sequence[Job]:
    """Jobs still queued. One that another holds is skipped: that other starts or ends it."""
    statement = (
        select(Job)
        .where(Job.id.in_(job_ids), Job.state == JobState.QUEUED)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def release_image(session: Session, claim: Claim, state: JobState, now: datetime) -> bool:
    """End the claim, or False where it is no longer the current one."""
    ended: dict[str, Any] = {"state": state, "worker_id": None}
    ended["queued_at" if state is JobState.QUEUED else "finished_at"] = now
    statement = (
        update(Image)
        .where(
            Image.id == claim.image_id,
            Image.state == JobState.RUNNING,
            Image.worker_id == claim.worker_id,
            Image.attempt == claim.attempt,
        )
        .values(ended)
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


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
    return [(JobState(before), seconds) for before, seconds in ended]


async def unfinished_seconds(session: Session, job_id: UUID) -> Sequence[float]:
    """Predicted seconds of each image of the job that has no picture."""
    statement = select(Image.seconds).where(
        Image.job_id == job_id, Image.state != JobState.SUCCEEDED
    )
    return (await session.scalars(statement)).all()


async def count_live_images(session: Session, job_id: UUID) -> int:
    statement = select(func.count()).where(Image.job_id == job_id, Image.state.in_(LIVE))
    return (await session.scalars(statement)).one()


async def images_held(session: Session, worker_id: UUID) -> Sequence[Image]:
    statement = select(Image).where(Image.worker_id == worker_id, Image.state == JobState.RUNNING)
    return (await session.scalars(statement)).all()


async def add_variants(session: Session, image_id: UUID, files: Sequence[StoredFile]) -> None:
    session.add_all([Variant(image_id=image_id, **asdict(file)) for file in files])
    await session.flush()


async def abandoned_images(session: Session) -> Sequence[Image]:
    """Running images whose worker is gone."""
    worker = select(Worker.id).where(Worker.id == Image.worker_id).exists()
    statement = (
        select(Image)
        .where(Image.state == JobState.RUNNING, ~worker)
        .order_by(Image.job_id, Image.index)
    )
    return (await session.scalars(statement)).all()


async def requeue_abandoned(session: Session, image: Image) -> bool:
    """Queue the image again with one more crash on its account: it is drawn alone from now on."""
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
            crashes=Image.crashes + 1,
            queued_at=func.clock_timestamp(),
        )
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None
