"""Queries on the durable events of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Integer,
    Select,
    Uuid,
    and_,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from serve.database import Session
from serve.events import Event, EventType, event_data
from serve.models import EventRow, Job
from serve.webhooks.repository import OUTBOX


def _appending() -> Select[datetime]:
    table = EventRow.table()
    event = (
        insert(table)
        .values({name: bindparam(name) for name in ("job_id", "seq", "type", "data")})
        .returning(table.c.created_at)
        .cte("event")
    )
    return select(event.c.created_at).add_cte(OUTBOX.cte("outbox"))


_APPEND = _appending()


async def append_event(
    session: Session, job: Job, event_type: EventType, data: dict[str, Any]
) -> Event:
    """The job's next event; its row must be locked, so that numbers have no gaps.

    The same statement puts it on its way to the tenant's webhooks.
    """
    job.last_seq += 1
    return await _append(session, job, event_type, data)


async def first_event(session: Session, job: Job, data: dict[str, Any]) -> Event:
    """That the job is queued, which `insert_job` has counted; on its way to webhooks as well."""
    return await _append(session, job, EventType.QUEUED, data)


async def _append(session: Session, job: Job, event_type: EventType, data: dict[str, Any]) -> Event:
    event = {"job_id": job.id, "seq": job.last_seq, "type": event_type.value, "data": data}
    with session.no_autoflush:  # the job's row is written once, whatever it tells
        appended = await session.scalars(_APPEND, {**event, "tenant_id": job.tenant_id})
    return Event(
        tenant_id=job.tenant_id,
        job_id=job.id,
        seq=job.last_seq,
        type=event_type,
        created_at=appended.one(),
        data=data,
    )


def _beyond() -> Select[UUID, UUID, int, str, datetime, dict[str, Any]]:
    cursor = (
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
    row = EventRow
    return (
        select(Job.tenant_id, row.job_id, row.seq, row.type, row.created_at, row.data)
        .join(
            cursor,
            # Most jobs have nothing new: their own rows say so.
            and_(
                Job.id == cursor.c.job_id,
                Job.tenant_id == cursor.c.tenant_id,
                Job.last_seq > cursor.c.seq,
            ),
        )
        .join(row, and_(row.job_id == Job.id, row.seq > cursor.c.seq))
        .order_by(row.job_id, row.seq)
    )


_BEYOND = _beyond()


async def events_beyond(
    session: Session, cursors: Mapping[UUID, Mapping[UUID, int]]
) -> Sequence[Event]:
    """Events of jobs of several tenants, each beyond its own cursor, in order.

    A job that is not of the tenant under which it is asked for has none.
    """
    asked = [
        (tenant_id, job_id, seq)
        for tenant_id, jobs in cursors.items()
        for job_id, seq in jobs.items()
    ]
    if not asked:
        return []
    tenants, jobs, seqs = map(list, zip(*asked, strict=True))
    rows = await session.execute(_BEYOND, {"tenants": tenants, "jobs": jobs, "seqs": seqs})
    return [
        Event(
            tenant_id=tenant_id,
            job_id=job_id,
            seq=seq,
            type=EventType.read(event_type),
            created_at=created_at,
            data=event_data(data),
        )
        for tenant_id, job_id, seq, event_type, created_at, data in rows
    ]
