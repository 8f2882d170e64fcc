"""Queries on the durable events of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import (
    Integer,
    Uuid,
    and_,
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

from serve.clock import seconds
from serve.database import Session
from serve.events.event import Event, EventType, event_data
from serve.tables import EventRow, Job

_CURSOR = (
    func.unnest(
        bindparam("tenants", type_=ARRAY(Uuid)),
        bindparam("jobs", type_=ARRAY(Uuid)),
        bindparam("seqs", type_=ARRAY(Integer)),
    )
    .table_valued(
        column("tenant_id", Uuid), column("job_id", Uuid), column("seq", Integer), name="cursor"
    )
    .render_derived()
)
_BEYOND = (
    select(
        Job.tenant_id,
        EventRow.job_id,
        EventRow.seq,
        EventRow.type,
        EventRow.created_at,
        EventRow.data,
        Job.traceparent,
    )
    .join(
        _CURSOR,
        # Most jobs have nothing new, which their own rows tell.
        and_(
            Job.id == _CURSOR.c.job_id,
            Job.tenant_id == _CURSOR.c.tenant_id,
            Job.last_seq > _CURSOR.c.seq,
        ),
    )
    .join(EventRow, and_(EventRow.job_id == Job.id, EventRow.seq > _CURSOR.c.seq))
    .order_by(EventRow.job_id, EventRow.seq)
)


async def events_beyond(
    session: Session, cursors: Mapping[UUID, Mapping[UUID, int]]
) -> Sequence[Event]:
    """Events of jobs of several tenants, each beyond its own cursor, in order.

    A job that belongs to another tenant than the one given has none.
    """
    wanted = [
        (tenant_id, job_id, seq)
        for tenant_id, jobs in cursors.items()
        for job_id, seq in jobs.items()
    ]
    if not wanted:
        return []
    tenants, jobs, seqs = map(list, zip(*wanted, strict=True))
    rows = await session.execute(_BEYOND, {"tenants": tenants, "jobs": jobs, "seqs": seqs})
    return [
        Event(tenant_id, job_id, seq, EventType.read(type_), created_at, event_data(data), trace)
        for tenant_id, job_id, seq, type_, created_at, data, trace in rows
    ]


_JUST_NOW_S = 10.0
_TENANTS_OF = select(Job.tenant_id, Job.id).where(
    Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid)))
)


async def existing_jobs(
    session: Session, jobs: Collection[tuple[UUID, UUID]]
) -> set[tuple[UUID, UUID]]:
    """The pairs of a tenant and a job for which the tenant has that job."""
    if not jobs:
        return set()
    rows = await session.execute(_TENANTS_OF, {"job_ids": [job_id for _, job_id in jobs]})
    return {(tenant_id, job_id) for tenant_id, job_id in rows}.intersection(jobs)


async def live_jobs(session: Session, tenant_id: UUID, limit: int) -> Sequence[UUID]:
    """The newest ``limit`` jobs that have not ended, or ended just now."""
    recent = func.clock_timestamp() - seconds(_JUST_NOW_S)
    own = select(Job.id).where(Job.tenant_id == tenant_id)
    # Two queries, each with its own index: a tenant may have a million jobs that ended.
    live = own.where(Job.finished_at.is_(None)).order_by(Job.id.desc()).limit(limit)
    ended = own.where(Job.finished_at > recent).order_by(Job.finished_at.desc()).limit(limit)
    found = union(live, ended).subquery()
    newest = select(found.c.id).order_by(found.c.id.desc()).limit(limit)
    return (await session.scalars(newest)).all()


async def new_jobs(
    session: Session, tenant_ids: Sequence[UUID], within_s: float, limit: int
) -> Sequence[tuple[UUID, UUID]]:
    """Tenant and id of the jobs that began in the last ``within_s``, ``limit`` a tenant.

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
