"""Queries on jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    bindparam,
    func,
    select,
)
from sqlalchemy.orm import joinedload, selectinload

from serve.database import Session
from serve.tables import Image, Job, JobState


async def job_by_idempotency_key(session: Session, tenant_id: UUID, key: str) -> Job | None:
    statement = select(Job).where(Job.tenant_id == tenant_id, Job.idempotency_key == key)
    return await session.scalar(statement)


_LOCK_JOB = (
    select(Job, func.clock_timestamp())
    .where(Job.id == bindparam("job_id"))
    .with_for_update(of=Job)
    .execution_options(populate_existing=True)
)


async def lock_job(session: Session, job_id: UUID) -> tuple[Job, datetime]:
    """The job's row, locked, and the database's clock."""
    job, now = (await session.execute(_LOCK_JOB, {"job_id": job_id})).one()
    return job, now


_LOAD_JOB = (
    select(Job)
    .where(Job.id == bindparam("job_id"), Job.tenant_id == bindparam("tenant_id"))
    .options(joinedload(Job.images).joinedload(Image.variants))
    .execution_options(populate_existing=True)
)


async def load_job(session: Session, tenant_id: UUID, job_id: UUID) -> Job | None:
    found = await session.scalars(_LOAD_JOB, {"job_id": job_id, "tenant_id": tenant_id})
    return found.unique().one_or_none()


async def load_jobs(
    session: Session,
    tenant_id: UUID,
    limit: int,
    after: UUID | None,
    state: JobState | None,
    model: str | None,
) -> Sequence[Job]:
    """The tenant's jobs, newest first (ids are UUIDv7: they sort by time)."""
    statement = (
        select(Job)
        .where(Job.tenant_id == tenant_id)
        .order_by(Job.id.desc())
        .limit(limit)
        .options(selectinload(Job.images).joinedload(Image.variants))
    )
    if after is not None:
        statement = statement.where(Job.id < after)
    if state is not None:
        statement = statement.where(Job.state == state)
    if model is not None:
        statement = statement.where(Job.model == model)
    return (await session.scalars(statement)).all()


async def overdue_jobs(session: Session) -> Sequence[UUID]:
    statement = select(Job.id).where(
        Job.deadline_at < func.clock_timestamp(), Job.finished_at.is_(None)
    )
    return (await session.scalars(statement)).all()


async def count_jobs(session: Session) -> dict[JobState, int]:
    rows = await session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict(rows.all())
