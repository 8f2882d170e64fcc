"""Every query on jobs, images, events and workers. None of them commits.

Locks are taken job first, image second; a claim, which starts at the images, never waits for a
job. So no two transactions can wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Integer,
    Uuid,
    and_,
    column,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import joinedload, selectinload

from serve.database import Session
from serve.events import Event, EventType
from serve.jobs.request import JobRequest
from serve.jobs.stored_file import StoredFile
from serve.models import EventRow, Image, Job, JobState, Variant, Worker

REAPER_LOCK = 0x5F0A70  # any constant that nothing else in this database locks
_LIVE = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to draw one picture, good for as long as ``attempt`` is the current one."""

    image_id: UUID
    job_id: UUID
    tenant_id: UUID
    worker_id: UUID
    index: int
    attempt: int
    request: JobRequest


async def clock(session: Session) -> datetime:
    """The database's clock: the only one that counts."""
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now


# Jobs


async def insert_job(
    session: Session, tenant_id: UUID, request: JobRequest, idempotency_key: str | None
) -> Job | None:
    """The new job with its images, or None where the tenant used the key before."""
    statement = (
        insert(Job)
        .values(
            tenant_id=tenant_id,
            model=request.model,
            params=request.as_params(),
            n=request.n,
            priority=request.priority,
            idempotency_key=idempotency_key,
            request_digest=request.digest() if idempotency_key else None,
            deadline_at=None
            if request.deadline_s is None
            else func.now() + func.make_interval(0, 0, 0, 0, 0, 0, request.deadline_s),
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "idempotency_key"])
        .returning(Job)
    )
    job = await session.scalar(statement)
    if job is None:
        return None
    await session.execute(
        insert(Image).values(
            [
                {
                    "job_id": job.id,
                    "tenant_id": tenant_id,
                    "index": index,
                    "model": request.model,
                    "priority": request.priority,
                    "width": request.width,
                    "height": request.height,
                    "seed": request.seed + index,
                }
                for index in range(request.n)
            ]
        )
    )
    return job


async def job_by_idempotency_key(session: Session, tenant_id: UUID, key: str) -> Job:
    statement = select(Job).where(Job.tenant_id == tenant_id, Job.idempotency_key == key)
    return (await session.scalars(statement)).one()


async def lock_job(session: Session, job_id: UUID) -> tuple[Job, datetime]:
    """The job's row, locked, and the database's clock."""
    statement = (
        select(Job, func.clock_timestamp())
        .where(Job.id == job_id)
        .with_for_update(of=Job)
        .execution_options(populate_existing=True)
    )
    job, now = (await session.execute(statement)).one()
    return job, now


async def load_job(session: Session, tenant_id: UUID, job_id: UUID) -> Job | None:
    statement = (
        select(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
        .options(selectinload(Job.images).selectinload(Image.variants))
        .execution_options(populate_existing=True)
    )
    return await session.scalar(statement)


async def load_jobs(
    session: Session, tenant_id: UUID, limit: int, after: UUID | None
) -> Sequence[Job]:
    """The tenant's jobs, newest first (ids are UUIDv7: they sort by time)."""
    statement = (
        select(Job)
        .where(Job.tenant_id == tenant_id)
        .order_by(Job.id.desc())
        .limit(limit)
        .options(selectinload(Job.images).selectinload(Image.variants))
    )
    if after is not None:
        statement = statement.where(Job.id < after)
    return (await session.scalars(statement)).all()


async def job_exists(session: Session, tenant_id: UUID, job_id: UUID) -> bool:
    statement = select(Job.id).where(Job.id == job_id, Job.tenant_id == tenant_id)
    return await session.scalar(statement) is not None


async def live_jobs(session: Session, tenant_id: UUID, limit: int) -> Sequence[UUID]:
    """Jobs that have not ended, or ended just now."""
    recent = func.clock_timestamp() - text("interval '10 seconds'")
    statement = (
        select(Job.id)
        .where(
            Job.tenant_id == tenant_id,
            or_(Job.finished_at.is_(None), Job.finished_at > recent),
        )
        .order_by(Job.id.desc())
        .limit(limit)
    )
    return (await session.scalars(statement)).all()


async def overdue_jobs(session: Session) -> Sequence[UUID]:
    statement = select(Job.id).where(
        Job.deadline_at < func.clock_timestamp(), Job.finished_at.is_(None)
    )
    return (await session.scalars(statement)).all()


async def count_jobs(session: Session) -> dict[JobState, int]:
    rows = await session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict(rows.tuples().all())


# Images


async def load_image(session: Session, tenant_id: UUID, image_id: UUID) -> Image | None:
    statement = (
        select(Image)
        .where(Image.id == image_id, Image.tenant_id == tenant_id)
        .options(selectinload(Image.variants), joinedload(Image.job))
    )
    return await session.scalar(statement)


async def load_images(
    session: Session, tenant_id: UUID, limit: int, after: UUID | None
) -> Sequence[Image]:
    """The tenant's finished pictures, newest first."""
    statement = (
        select(Image)
        .where(Image.tenant_id == tenant_id, Image.state == JobState.SUCCEEDED)
        .order_by(Image.id.desc())
        .limit(limit)
        .options(selectinload(Image.variants), joinedload(Image.job))
    )
    if after is not None:
        statement = statement.where(Image.id < after)
    return (await session.scalars(statement)).all()


async def claim_images(
    session: Session, worker_id: UUID, model: str, limit: int, shape: tuple[int, int] | None
) -> Sequence[Image]:
    """Queued images, now running under ``worker_id``; those of ``shape`` (width, height) first."""
    order: list[Any] = [Image.priority.desc(), Image.id]
    if shape is not None:
        order.insert(1, and_(Image.width == shape[0], Image.height == shape[1]).desc())
    picked = (
        select(Image.id)
        .where(Image.state == JobState.QUEUED, Image.model == model)
        .order_by(*order)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    statement = (
        update(Image)
        .where(Image.id.in_(select(picked.c.id)))
        .values(state=JobState.RUNNING, worker_id=worker_id, attempt=Image.attempt + 1)
        .returning(Image)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await session.scalars(statement)).all()


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
    statement = (
        update(Image)
        .where(
            Image.id == claim.image_id,
            Image.state == JobState.RUNNING,
            Image.worker_id == claim.worker_id,
            Image.attempt == claim.attempt,
        )
        .values(
            state=state, worker_id=None, finished_at=now if state is not JobState.QUEUED else None
        )
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def end_images(session: Session, job_id: UUID, state: JobState, now: datetime) -> None:
    """Put every image of the job that has not ended into ``state``."""
    await session.execute(
        update(Image)
        .where(Image.job_id == job_id, Image.state.in_(_LIVE))
        .values(state=state, worker_id=None, finished_at=now)
        .execution_options(synchronize_session=False)
    )


async def count_live_images(session: Session, job_id: UUID) -> int:
    statement = select(func.count()).where(Image.job_id == job_id, Image.state.in_(_LIVE))
    return (await session.scalars(statement)).one()


async def count_work(session: Session, model: str) -> tuple[int, int]:
    """Queued and running pictures of the model."""
    rows = await session.execute(
        select(Image.state, func.count())
        .where(Image.model == model, Image.state.in_(_LIVE))
        .group_by(Image.state)
    )
    counts = dict(rows.tuples().all())
    return counts.get(JobState.QUEUED, 0), counts.get(JobState.RUNNING, 0)


async def picture_rate(session: Session, model: str) -> float | None:
    """Pictures that one worker finishes in a second of denoising, over the live workers."""
    finished = func.sum(Worker.stats["finished"].as_float())
    seconds = func.sum(Worker.stats["denoise_seconds"].as_float())
    rate: float | None = await session.scalar(
        select(finished / func.nullif(seconds, 0)).where(Worker.model == model)
    )
    return rate


async def images_held(session: Session, worker_id: UUID) -> set[UUID]:
    statement = select(Image.id).where(
        Image.worker_id == worker_id, Image.state == JobState.RUNNING
    )
    return set(await session.scalars(statement))


async def add_variants(session: Session, image_id: UUID, files: Sequence[StoredFile]) -> None:
    session.add_all([Variant(image_id=image_id, **asdict(file)) for file in files])
    await session.flush()


# Events


async def append_event(
    session: Session, job: Job, event_type: EventType, data: dict[str, Any]
) -> Event:
    """The job's next event; its row must be locked, so that numbers have no gaps."""
    job.last_seq += 1
    row = EventRow(job_id=job.id, seq=job.last_seq, type=event_type, data=data)
    session.add(row)
    await session.flush()
    return _event(job.tenant_id, row)


async def events_after(
    session: Session, tenant_id: UUID, cursors: Mapping[UUID, int]
) -> Sequence[Event]:
    """Events of several jobs, each beyond its own cursor, in order."""
    if not cursors:
        return []
    cursor = (
        func.unnest(
            literal(list(cursors), ARRAY(Uuid)), literal(list(cursors.values()), ARRAY(Integer))
        )
        .table_valued(column("job_id", Uuid), column("seq", Integer), name="cursor")
        .render_derived()
    )
    statement = (
        select(EventRow)
        .join(cursor, and_(EventRow.job_id == cursor.c.job_id, EventRow.seq > cursor.c.seq))
        .join(Job, Job.id == EventRow.job_id)
        .where(Job.tenant_id == tenant_id)
        .order_by(EventRow.job_id, EventRow.seq)
    )
    return [_event(tenant_id, row) for row in await session.scalars(statement)]


def _event(tenant_id: UUID, row: EventRow) -> Event:
    return Event(
        tenant_id=tenant_id,
        job_id=row.job_id,
        seq=row.seq,
        type=EventType(row.type),
        created_at=row.created_at,
        data=row.data,
    )


# Workers


async def insert_worker(session: Session, model: str, device: str, slots: int) -> UUID:
    statement = insert(Worker).values(model=model, device=device, slots=slots)
    return (await session.scalars(statement.returning(Worker.id))).one()


async def beat(session: Session, worker_id: UUID, stats: dict[str, Any], draining: bool) -> bool:
    """Renew the worker's lease, or False where the reaper took it."""
    statement = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(heartbeat_at=func.clock_timestamp(), stats=stats, draining=draining)
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def delete_worker(session: Session, worker_id: UUID) -> None:
    await session.execute(delete(Worker).where(Worker.id == worker_id))


async def live_workers(session: Session, lease_s: float) -> Sequence[Worker]:
    return (
        await session.scalars(
            select(Worker).where(Worker.heartbeat_at > _ago(lease_s)).order_by(Worker.id)
        )
    ).all()


async def delete_silent_workers(session: Session, lease_s: float) -> Sequence[UUID]:
    statement = delete(Worker).where(Worker.heartbeat_at <= _ago(lease_s)).returning(Worker.id)
    return (await session.scalars(statement)).all()


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
    """Queue the image again with one more crash on its account."""
    statement = (
        update(Image)
        .where(
            Image.id == image.id,
            Image.state == JobState.RUNNING,
            Image.worker_id == image.worker_id,
            Image.attempt == image.attempt,
        )
        .values(state=JobState.QUEUED, worker_id=None, crashes=Image.crashes + 1)
        .returning(Image.id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def try_reaper_lock(session: Session) -> bool:
    """One reaper at a time; the lock ends with the transaction."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(REAPER_LOCK))))


def _ago(seconds: float) -> Any:
    return func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
