"""What the artist asks of the jobs' tables. None of it commits.

Times are those of the transaction's begin: only a time that stands still can be looked up in an
index, and it errs towards drawing less.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import String, and_, func, literal_column, or_, select, text
from sqlalchemy.orm import joinedload, selectinload

from serve.access.repository import TenantLock, lock_tenant
from serve.database import Session
from serve.pictures.repository import IS_SHOWN, first_id
from serve.tables import LIVE, Image, Job, JobState, Tenant

_AUTONOMOUS = text("jobs.why IS NOT NULL")  # as the index says it
_PROMPT = literal_column("jobs.params ->> 'prompt'", String)
DAY = timedelta(days=1)


async def lock_artist(session: Session, tenant_id: UUID) -> None:
    """From here to the commit nobody else accepts an autonomous job of the tenant."""
    await lock_tenant(session, TenantLock.ARTIST, tenant_id)


async def drawn_before(
    session: Session, tenant_id: UUID, prompts: Collection[str], window: timedelta
) -> set[str]:
    """Those of the prompts that the tenant's artist drew within the window."""
    found = await session.scalars(
        select(_PROMPT).where(
            Job.tenant_id == tenant_id,
            _AUTONOMOUS,
            _PROMPT.in_(prompts),
            Job.created_at > func.now() - window,
        )
    )
    return set(found)


async def spent_seconds(session: Session, tenant_id: UUID) -> float:
    """Device seconds of the tenant's jobs that have not ended, or ended within 24 hours.

    A picture counts by its price, as often as it was begun, or once if it is still to be drawn.
    """
    never_begun = and_(Image.state.not_in(LIVE), Image.attempt == 0)
    recent = or_(Job.finished_at.is_(None), Job.finished_at > func.now() - DAY)
    spent = await session.scalar(
        select(func.coalesce(func.sum(Image.seconds * func.greatest(Image.attempt, 1)), 0.0))
        .join(Job, Job.id == Image.job_id)
        .where(Job.tenant_id == tenant_id, recent, ~never_begun)
    )
    return float(spent or 0.0)


async def any_unended(session: Session, tenant_id: UUID) -> bool:
    """Whether a job of the tenant has not ended."""
    unended = select(Job.id).where(Job.tenant_id == tenant_id, Job.finished_at.is_(None))
    return bool(await session.scalar(select(unended.exists())))


async def submitted_within(session: Session, tenant_id: UUID, interval: timedelta) -> bool:
    """Whether a job of the tenant was accepted within the interval up to now."""
    newest = await session.scalar(
        select(Job.created_at > func.now() - interval)
        .where(Job.tenant_id == tenant_id)
        .order_by(Job.id.desc())
        .limit(1)
    )
    return bool(newest)


async def kept_pictures(session: Session, job_id: UUID) -> Sequence[Image]:
    """The job's finished pictures that are not deleted, by their index."""
    statement = (
        select(Image)
        .where(
            Image.job_id == job_id,
            Image.state == JobState.SUCCEEDED,
            Image.deleted_at.is_(None),
        )
        .order_by(Image.index)
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(statement)).all()


async def exhibited(
    session: Session,
    tenant_name: str,
    since: datetime,
    until: datetime,
    limit: int,
    after: UUID | None,
) -> Sequence[Image]:
    """Pictures of the tenant's autonomous jobs that were asked for then, the newest first."""
    tenant = select(Tenant.id).where(Tenant.name == tenant_name).scalar_subquery()
    statement = (
        select(Image)
        .join(Image.job)
        .where(
            Image.tenant_id == tenant,
            IS_SHOWN,
            _AUTONOMOUS,
            Image.created_at >= since,
            Image.id >= first_id(since),  # by the index
            Image.created_at < until,
        )
        .order_by(Image.id.desc())
        .limit(limit)
        .options(selectinload(Image.variants), joinedload(Image.job))
    )
    if after is not None:
        statement = statement.where(Image.id < after)
    return (await session.scalars(statement)).all()
