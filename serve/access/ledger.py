"""What tenants have used, and the quota of GPU seconds that each has in a calendar month."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import ClassVar
from uuid import UUID

from serve.access.remembered import FRESH_S, Bounded
from serve.access.repository import charge_usage, gpu_seconds_used, lock_quota, read_usage
from serve.access.tenants import TenantLimits
from serve.clock import clock
from serve.database import Database, Session
from serve.errors import ServiceError
from serve.tables import Job, Usage


class InsufficientQuota(ServiceError):
    status: ClassVar[int] = 429
    code: ClassVar[str] = "insufficient_quota"
    title: ClassVar[str] = "The month's quota is used up"
    example = "Of this month's 100000 GPU seconds 12.5 are left, and this needs 38.2."

    @property
    def headers(self) -> dict[str, str]:
        """Tell clients not to retry by themselves: it may be weeks until the month ends."""
        return {**super().headers, "X-Should-Retry": "false"}


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows by day and model, from ``since`` to ``until``, both included; and the month's quota.

    ``quota`` is in GPU seconds, of which ``used`` are; 0 is no limit.
    """

    since: date
    until: date
    rows: Sequence[Usage]
    quota: float
    used: float
    resets_at: datetime


@dataclass(slots=True)
class _Month:
    """What a tenant had used of the month that ends at ``end``, when Postgres last said so."""

    used: float
    end: datetime
    resets_at: float  # on this process's clock, as is the next
    stale_at: float

    def check(self, gpu_seconds: float, quota: float) -> None:
        """Raise InsufficientQuota where so much more is beyond the quota."""
        if self.used + gpu_seconds > quota:
            raise InsufficientQuota(
                f"Of this month's {quota:g} GPU seconds {max(0.0, quota - self.used):.6g} are left,"
                f" and this needs {gpu_seconds:.6g}; the quota is renewed on {self.end.date()}"
                " (UTC), and an operator can raise it.",
                retry_after_s=max(1, math.ceil(self.resets_at - monotonic())),
            )


class Ledger:
    """Counts jobs in the transaction that accepts them, and keeps them within the month's quota.

    It remembers what Postgres said a tenant has used, so that a sure refusal takes no query. Every
    ``FRESH_S`` seconds one job gets as far as the transaction, which reads it again.
    `serve.jobs.transitions` gives usage back.
    """

    def __init__(self, database: Database, tenants: TenantLimits) -> None:
        self._database = database
        self._tenants = tenants
        self._last: Bounded[UUID, _Month] = Bounded()

    async def check(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """Check the quota as far as is known; takes no query once the tenant's limits are known.

        Raises:
            InsufficientQuota: it does not cover the job.
        """
        quota = (await self._tenants.of(tenant_id)).gpu_seconds_per_month
        last = self._last.get(tenant_id)
        if quota and last is not None and monotonic() <= min(last.stale_at, last.resets_at):
            last.check(gpu_seconds, quota)

    async def charge(self, session: Session, job: Job, gpu_seconds: float) -> None:
        """Count the job: the last statement of its transaction.

        Raises:
            InsufficientQuota: the quota does not cover it; the transaction must be rolled back.
        """
        quota = (await self._tenants.of(job.tenant_id)).gpu_seconds_per_month
        if quota:
            await lock_quota(session, job.tenant_id)
            first, end = _month(job.created_at)
            used = await gpu_seconds_used(session, job.tenant_id, first.date(), end.date())
            now = monotonic()
            resets_at = now + (end - job.created_at).total_seconds()
            self._last[job.tenant_id] = last = _Month(used, end, resets_at, now + FRESH_S)
            last.check(gpu_seconds, quota)
            last.used += gpu_seconds
        await charge_usage(session, job, gpu_seconds)

    async def read(
        self, tenant_id: UUID, since: date | None = None, until: date | None = None
    ) -> UsageReport:
        """What the tenant used; by default from the month's beginning until now."""
        quota = (await self._tenants.of(tenant_id)).gpu_seconds_per_month
        async with self._database.transaction() as session:
            now = await clock(session)
            first, end = _month(now)
            since, until = since or first.date(), until or now.astimezone(UTC).date()
            rows = await read_usage(session, tenant_id, since, until)
            used = await gpu_seconds_used(session, tenant_id, first.date(), end.date())
        return UsageReport(since, until, rows, quota, used, end)

    def forget(self, tenant_id: UUID) -> None:
        """The tenant's limits were changed by this process: read them again."""
        self._last.pop(tenant_id, None)
        self._tenants.forget(tenant_id)


def _month(moment: datetime) -> tuple[datetime, datetime]:
    """The beginning and the end of its calendar month in UTC."""
    first = datetime.combine(moment.astimezone(UTC).date().replace(day=1), time(), UTC)
    return first, (first + timedelta(days=31)).replace(day=1)
