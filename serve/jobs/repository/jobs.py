"""Queries on jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Uuid,
    any_,
    bindparam,
    column,
    func,
    literal,
    select,
    true,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import joinedload, selectinload

from serve.database import Session
from serve.jobs.repository.transaction import seconds
from serve.models import Image, Job, JobState

_JUST_NOW_S = 10.0


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


_TENANTS_OF = select(Job.tenant_id, Job.id).where(
    Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid)))
)


async def existing_jobs(
    session: Session, jobs: Collection[tuple[UUID, UUID]]
) -> set[tuple[UUID, UUID]]:
    """Those of these that there are, each a tenant and a job of it."""
    if not jobs:
        return set()
    rows = await session.execute(_TENANTS_OF, {"job_ids": [job_id for _, job_id in jobs]})
    return {(tenant_id, job_id) for tenant_id, job_id in rows}.intersection(jobs)


async def live_jobs(session: Session, tenant_id: UUID, limit: int) -> Sequence[UUID]:
    """Jobs that have not ended, or ended just now; the newest."""
    recent = func.clock_timestamp() - seconds(_JUST_NOW_S)
    own = select(Job.id).where(Job.tenant_id == tenant_id)
    # Two ways in, each by its own index: a tenant may have a million jobs that ended.
    live = own.where(Job.finished_at.is_(None)).order_by(Job.id.desc()).limit(limit)
    ended = own.where(Job.finished_at > recent).order_by(Job.finished_at.desc()).limit(limit)
    found = union(live, ended).subquery()
    newest = select(found.c.id).order_by(found.c.id.desc()).limit(limit)
    return (await session.scalars(newest)).all()


async def new_jobs(
    session: Session, tenant_ids: Sequence[UUID], within_s: float, limit: int
) -> Sequence[tuple[UUID, UUID]]:
    """Tenant and id of the tenants' jobs that began within so many seconds, ``limit`` a tenant.

    Ids sort by time, so this reads no older rows however many there are.
    """
    tenant = (
        func.unnest(literal(list(tenant_ids), ARRAY(Uuid)))
        .table_valued(column("id", Uuid), name="tenant")
        .render_derived()
    )
    youngest = (
        select(Job.id)
        .where(
            Job.tenant_id == tenant.c.id,
            Job.id > select(func.uuidv7(seconds(-within_s))).scalar_subquery(),
        )
        .order_by(Job.id.desc())
        .limit(limit)
        .lateral("youngest")
    )
    rows = await session.execute(select(tenant.c.id, youngest.c.id).join(youngest, true()))
    return [(tenant_id, job_id) for tenant_id, job_id in rows]


async def overdue_jobs(session: Session) -> Sequence[UUID]:
    statement = select(Job.id).where(
        Job.deadline_at < func.clock_timestamp(), Job.finished_at.is_(None)
    )
    return (await session.scalars(statement)).all()


async def count_jobs(session: Session) -> dict[JobState, int]:
    rows = await session.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict(rows.all())
