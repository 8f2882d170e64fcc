"""What tenants have used, and the quota of GPU seconds that each has in a calendar month."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import ClassVar
from uuid import UUID

from serve.access.repository import charge_usage, gpu_seconds_used, lock_quota, read_usage
from serve.access.tenants import TenantLimitsCache
from serve.clock import clock
from serve.database import Database, Session
from serve.errors import ServiceError
from serve.tables import Job, Usage

_FRESH_S = 5.0
_MAX_TENANTS = 10_000


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
class Month:
    """A calendar month in UTC: from ``first`` until before ``next``."""

    first: date
    next: date

    @classmethod
    def of(cls, moment: datetime) -> Month:
        first = moment.astimezone(UTC).date().replace(day=1)
        return cls(first, (first + timedelta(days=31)).replace(day=1))

    @property
    def end(self) -> datetime:
        return datetime.combine(self.next, time(), UTC)


@dataclass(frozen=True, slots=True)
class QuotaState:
    """Of the current calendar month; ``gpu_seconds`` 0 is no limit."""

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


@dataclass(frozen=True, slots=True)
class _LastUsage:
    """What a tenant had used when it was last read from Postgres."""

    gpu_seconds: float
    month: Month
    resets_at: float  # on this process's clock, as is the next
    stale_at: float


class Ledger:
    """Counts jobs in the transaction that accepts them, and keeps them within the month's quota.

    It remembers what Postgres said a tenant has used, so that a sure refusal takes no query. Every
    ``_FRESH_S`` seconds one job gets as far as the transaction, which reads it again.
    `serve.jobs.transitions` gives usage back.
    """

    def __init__(self, database: Database, tenants: TenantLimitsCache) -> None:
        self._database = database
        self._tenants = tenants
        self._last: dict[UUID, _LastUsage] = {}

    async def check(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """Check the quota as far as is known; takes no query once the tenant's limits are known.

        Raises:
            InsufficientQuota: it does not cover the job.
        """
        quota = await self._quota(tenant_id)
        last = self._last.get(tenant_id)
        now = monotonic()
        if not quota or last is None or now > min(last.stale_at, last.resets_at):
            return
        if last.gpu_seconds + gpu_seconds > quota:
            left_s = last.resets_at - now
            raise _insufficient(last.gpu_seconds, gpu_seconds, quota, last.month, left_s)

    async def charge(self, session: Session, job: Job, gpu_seconds: float) -> None:
        """Count the job: the last statement of its transaction.

        Raises:
            InsufficientQuota: the quota does not cover it; the transaction must be rolled back.
        """
        quota = await self._quota(job.tenant_id)
        if not quota:
            await charge_usage(session, job, gpu_seconds)
            return
        await lock_quota(session, job.tenant_id)
        await charge_usage(session, job, gpu_seconds)
        month = Month.of(job.created_at)
        left_s = (month.end - job.created_at).total_seconds()
        used = await gpu_seconds_used(session, job.tenant_id, month.first, month.next)
        is_over = used > quota
        if is_over:
            used -= gpu_seconds  # which the rollback takes off again
        now = monotonic()
        if len(self._last) >= _MAX_TENANTS:
            self._last.clear()
        self._last[job.tenant_id] = _LastUsage(used, month, now + left_s, now + _FRESH_S)
        if is_over:
            raise _insufficient(used, gpu_seconds, quota, month, left_s)

    async def read(
        self, tenant_id: UUID, since: date | None = None, until: date | None = None
    ) -> UsageReport:
        """What the tenant used; by default from the month's beginning until now."""
        quota = await self._quota(tenant_id)
        async with self._database.transaction() as session:
            now = await clock(session)
            month = Month.of(now)
            since, until = since or month.first, until or now.astimezone(UTC).date()
            rows = await read_usage(session, tenant_id, since, until)
            used = await gpu_seconds_used(session, tenant_id, month.first, month.next)
        return UsageReport(since, until, rows, QuotaState(quota, used, month.end))

    def forget(self, tenant_id: UUID) -> None:
        """The tenant's limits were changed by this process: read them again."""
        self._last.pop(tenant_id, None)
        self._tenants.forget(tenant_id)

    async def _quota(self, tenant_id: UUID) -> float:
        return (await self._tenants.of(tenant_id)).gpu_seconds_per_month


def _insufficient(
    used: float, cost: float, quota: float, month: Month, left_s: float
) -> InsufficientQuota:
    return InsufficientQuota(
        f"Of this month's {quota:g} GPU seconds {max(0.0, quota - used):.6g} are left, and this"
        f" needs {cost:.6g}; the quota is renewed on {month.next} (UTC), and an operator can raise"
        " it.",
        retry_after_s=max(1, math.ceil(left_s)),
    )
