"""Each tenant's GPU seconds of a calendar month, in UTC. Knows no database."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import ClassVar
from uuid import UUID

from serve.errors import ServiceError

FRESH_S = 5.0
_MOST_KNOWN = 10_000


class InsufficientQuota(ServiceError):
    status: ClassVar[int] = 429
    code: ClassVar[str] = "insufficient_quota"
    title: ClassVar[str] = "The month's quota is used up"
    example = "Of this month's 100000 GPU seconds 12.5 are left, and this needs 38.2."

    @property
    def headers(self) -> dict[str, str]:
        """That it may be weeks, beside when."""
        return {**super().headers, "X-Should-Retry": "false"}


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month: from ``first`` until before ``next``."""

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
class _Known:
    used: float
    month: Month
    resets_at: float  # on this process's clock, as is the next
    stale_at: float


class Quotas:
    """Remembers what Postgres said a tenant has used, so that to refuse takes no query.

    Whether a job is within the quota is decided in the transaction that accepts it. One whose
    refusal is sure is refused before; every ``FRESH_S`` seconds one goes and looks again.
    """

    def __init__(self) -> None:
        self._known: dict[UUID, _Known] = {}

    def check(self, tenant_id: UUID, quota: float, cost: float) -> None:
        """See that the job may be within the quota, as far as is known.

        Raises:
            InsufficientQuota: it is not.
        """
        known = self._known.get(tenant_id)
        now = monotonic()
        if not quota or known is None or now > min(known.stale_at, known.resets_at):
            return
        if known.used + cost > quota:
            raise _refused(known.used, cost, quota, known.month, known.resets_at - now)

    def settle(
        self, tenant_id: UUID, quota: float, cost: float, used: float, moment: datetime
    ) -> None:
        """See that the job is within the quota: ``used`` holds its ``cost`` already.

        Raises:
            InsufficientQuota: it is not; the transaction must not be committed.
        """
        month = Month.of(moment)
        left_s = (month.end - moment).total_seconds()
        refused = used > quota
        before = used - cost if refused else used
        now = monotonic()
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[tenant_id] = _Known(before, month, now + left_s, now + FRESH_S)
        if refused:
            raise _refused(before, cost, quota, month, left_s)

    def forget(self, tenant_id: UUID) -> None:
        """Its quota was changed here, or some of it was given back."""
        self._known.pop(tenant_id, None)


def _refused(
    used: float, cost: float, quota: float, month: Month, left_s: float
) -> InsufficientQuota:
    return InsufficientQuota(
        f"Of this month's {quota:g} GPU seconds {max(0.0, quota - used):.6g} are left, and this"
        f" needs {cost:.6g}; the quota is renewed on {month.next} (UTC), and an operator can raise"
        " it.",
        retry_after_s=max(1, math.ceil(left_s)),
    )
