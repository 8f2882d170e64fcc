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
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from serve.database import Session
from serve.events import Event, EventType
from serve.models import EventRow, Job
from serve.webhooks.repository import OUTBOX


def _append() -> Select[datetime]:
    event = (
        insert(EventRow)
        .values({name: bindparam(name) for name in ("job_id", "seq", "type", "data")})
        .returning(EventRow.created_at)
        .cte("event")
    )
    return select(event.c.created_at).add_cte(OUTBOX.cte("outbox"))


_APPEND = _append()


async def append_event(
    session: Session, job: Job, event_type: EventType, data: dict[str, Any]
) -> Event:
    """The job's next event; its row must be locked, so that numbers have no gaps.

    The same statement puts it on its way to the tenant's webhooks.
    """
    job.last_seq += 1
    await session.flush()
    event = {"job_id": job.id, "seq": job.last_seq, "type": event_type.value, "data": data}
    appended = await session.scalars(_APPEND, {**event, "tenant_id": job.tenant_id})
    return Event(
        tenant_id=job.tenant_id,
        job_id=job.id,
        seq=job.last_seq,
        type=event_type,
        created_at=appended.one(),
        data=data,
    )


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
