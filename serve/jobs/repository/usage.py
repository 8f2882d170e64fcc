"""Queries on what tenants' jobs came to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert

from serve.database import Session
from serve.models import Job, Usage

QUOTA_LOCKS = 0x5F0A73  # the space of advisory locks that nothing else takes


def _charging() -> Insert:
    table = Usage.table()
    statement = insert(table)
    told = ("jobs", "pictures", "gpu_seconds")
    return statement.on_conflict_do_update(
        index_elements=["tenant_id", "day", "model"],
        set_={name: table.c[name] + statement.excluded[name] for name in told},
    )


_CHARGE = _charging()


async def charge_usage(session: Session, job: Job, gpu_seconds: float) -> None:
    """Count a job that is accepted, on the day that it is.

    Locks a row that the tenant's other jobs of that day wait for: the last thing before the commit.
    """
    row = {"tenant_id": job.tenant_id, "day": _day(job), "model": job.model}
    told = {"jobs": 1, "pictures": job.n, "gpu_seconds": gpu_seconds}
    await session.execute(_CHARGE, row | told)


async def give_back_usage(session: Session, job: Job, pictures: int, gpu_seconds: float) -> None:
    """Take pictures of the job off again. The last thing before the commit, as charging is."""
    await session.execute(
        update(Usage)
        .where(Usage.tenant_id == job.tenant_id, Usage.day == _day(job), Usage.model == job.model)
        .values(
            pictures=Usage.pictures - pictures,
            # What was added in another order may differ from 0 by a hair.
            gpu_seconds=func.greatest(0, Usage.gpu_seconds - gpu_seconds),
        )
        .execution_options(synchronize_session=False)
    )


async def lock_quota(session: Session, tenant_id: UUID) -> None:
    """One of the tenant's jobs at a time, until the commit: each sees what the others used."""
    await session.execute(
        select(func.pg_advisory_xact_lock(QUOTA_LOCKS, func.hashtext(str(tenant_id))))
    )


async def gpu_seconds_used(session: Session, tenant_id: UUID, since: date, until: date) -> float:
    """From ``since`` until before ``until``."""
    statement = select(func.coalesce(func.sum(Usage.gpu_seconds), 0.0)).where(
        Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day < until
    )
    return (await session.scalars(statement)).one()


async def read_usage(
    session: Session, tenant_id: UUID, since: date, until: date
) -> Sequence[Usage]:
    """By day and model, from ``since`` to ``until``."""
    statement = (
        select(Usage)
        .where(Usage.tenant_id == tenant_id, Usage.day >= since, Usage.day <= until)
        .order_by(Usage.day, Usage.model)
    )
    return (await session.scalars(statement)).all()


def _day(job: Job) -> date:
    return job.created_at.astimezone(UTC).date()
