"""What tenants have used, and whether there is quota for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from serve.access.quota import Month, Quotas
from serve.access.repository import charge_usage, gpu_seconds_used, lock_quota, read_usage
from serve.access.tenant_limits import TenantLimitsCache
from serve.clock import clock
from serve.database import Database, Session
from serve.tables import Job, Usage


@dataclass(frozen=True, slots=True)
class QuotaState:
    """Of the calendar month that it is; ``gpu_seconds`` 0 is no limit."""

    gpu_seconds: float
    used: float
    resets_at: datetime


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows by day and model, from ``since`` to ``until``, both included."""

    since: date
    until: date
    rows: Sequence[Usage]
    quota: QuotaState


class Ledger:
    """Counts jobs in the transaction that accepts them, and holds them to the month's quota.

    What is given back is `serve.jobs.transitions`' to tell.
    """

    def __init__(self, database: Database, tenants: TenantLimitsCache) -> None:
        self._database = database
        self._tenants = tenants
        self._quotas = Quotas()

    async def check(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """See that there may be quota for the job; takes no query once limits are known.

        Raises:
            InsufficientQuota: there is none.
        """
        quota = (await self._tenants.of(tenant_id)).gpu_seconds_per_month
        self._quotas.check(tenant_id, quota, gpu_seconds)

    async def charge(self, session: Session, job: Job, gpu_seconds: float) -> None:
        """Count the job; the last thing in its transaction.

        Raises:
            InsufficientQuota: there is no quota for it; nothing of it may be committed.
        """
        quota = (await self._tenants.of(job.tenant_id)).gpu_seconds_per_month
        if quota:
            await lock_quota(session, job.tenant_id)
        await charge_usage(session, job, gpu_seconds)
        if quota:
            month = Month.of(job.created_at)
            used = await gpu_seconds_used(session, job.tenant_id, month.first, month.next)
            self._quotas.settle(job.tenant_id, quota, gpu_seconds, used, job.created_at)

    async def read(
        self, tenant_id: UUID, since: date | None = None, until: date | None = None
    ) -> UsageReport:
        """What the tenant used, from the month's beginning and until now where not told."""
        quota = (await self._tenants.of(tenant_id)).gpu_seconds_per_month
        async with self._database.transaction() as session:
            now = await clock(session)
            month = Month.of(now)
            since, until = since or month.first, until or now.astimezone(month.end.tzinfo).date()
            rows = await read_usage(session, tenant_id, since, until)
            used = await gpu_seconds_used(session, tenant_id, month.first, month.next)
        return UsageReport(since, until, rows, QuotaState(quota, used, month.end))

    def forget(self, tenant_id: UUID) -> None:
        """The tenant's limits were changed here."""
        self._quotas.forget(tenant_id)
        self._tenants.forget(tenant_id)
