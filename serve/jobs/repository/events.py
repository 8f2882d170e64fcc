"""The durable events of jobs, written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.events.event import Event, EventType
from serve.tables import EventRow, Job
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
