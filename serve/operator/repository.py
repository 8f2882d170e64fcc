"""What of all tenants' jobs an operator sees. Each query is bounded, and has an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text

from serve.database import Session
from serve.tables import Job, Tenant

# By tenant, because the index begins with it, and a job that ends is written to no further one.
DRAWN = text("""
    SELECT coalesce(sum(ended.n), 0)
    FROM tenants CROSS JOIN LATERAL (
        SELECT sum(n) AS n FROM jobs
        WHERE tenant_id = tenants.id AND state = 'succeeded'
            AND finished_at > now() - make_interval(secs => :seconds)
    ) ended
""")
FAILED = text("jobs.state = 'failed'")  # a constant, because of the partial index


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed; what it asked for is its tenant's own."""

    job_id: UUID
    tenant: str
    model: str
    error: str | None
    error_code: str | None
    finished_at: datetime


async def count_drawn(session: Session, seconds: float) -> int:
    """Pictures of the jobs that succeeded within the last ``seconds``."""
    return int((await session.execute(DRAWN, {"seconds": seconds})).scalar_one())


async def load_failures(session: Session, limit: int) -> Sequence[Failure]:
    """The latest first."""
    statement = (
        select(
            Job.id.label("job_id"),
            Tenant.name.label("tenant"),
            Job.model,
            Job.error,
            Job.error_code,
            Job.finished_at,
        )
        .join(Tenant, Tenant.id == Job.tenant_id)
        .where(FAILED)
        .order_by(Job.finished_at.desc())
        .limit(limit)
    )
    return [Failure(**row._mapping) for row in await session.execute(statement)]
