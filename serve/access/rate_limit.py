"""Each tenant's rate limits: requests that change something, and predicted GPU seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from serve.access.buckets import Buckets
from serve.access.gcra import Rate, Taken
from serve.access.tenant_limits import TenantLimits, TenantLimitsCache
from serve.database import Database
from serve.errors import ServiceError
from serve.settings import Settings

_MINUTE_S = 60.0
_MOST_TOLD = 10_000


class Policy(StrEnum):
    """What is limited, by the name that clients read."""

    REQUESTS = "requests"
    GPU_SECONDS = "gpu-seconds"

    def rate(self, limits: TenantLimits) -> Rate | None:
        """None is no limit."""
        if self is Policy.REQUESTS:
            a_minute = burst = limits.requests_per_minute
        else:
            a_minute = limits.gpu_seconds_per_minute
            burst = limits.gpu_seconds_burst or a_minute
        return Rate(a_minute / _MINUTE_S, burst) if a_minute else None


class RateLimitExceeded(ServiceError):
    status: ClassVar[int] = 429
    code: ClassVar[str] = "rate_limit_exceeded"
    title: ClassVar[str] = "Rate limit exceeded"
    example = "This tenant may use 120 requests a minute, 120 of them at once; try again in 0.4 s."


class RateLimits:
    """Takes from each tenant's buckets, and knows what it last saw in them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Raises ValueError where there is no REDIS_URL."""
        if settings.redis_url is None:
            raise ValueError("Set REDIS_URL, or use `sfumato up`, which starts a Valkey.")
        defaults = TenantLimits.of_settings(settings.limits)
        self.tenants = TenantLimitsCache(database, defaults)
        self._buckets = Buckets(settings.redis_url.get_secret_value(), settings.scaling.ingress_max)
        self._seen: dict[UUID, dict[Policy, tuple[Rate, Taken]]] = {}

    async def count_request(self, tenant_id: UUID) -> None:
        """One more request of the tenant's.

        Raises:
            RateLimitExceeded: there were too many.
        """
        await self._take(tenant_id, Policy.REQUESTS, 1)

    async def spend(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """So many predicted GPU seconds of the tenant's.

        Raises:
            RateLimitExceeded: it has to wait for them.
        """
        await self._take(tenant_id, Policy.GPU_SECONDS, gpu_seconds)

    async def check_spending(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """See that the tenant could spend so many by now; they are not spent.

        Raises:
            RateLimitExceeded: it would have to wait for them.
        """
        await self._take(tenant_id, Policy.GPU_SECONDS, gpu_seconds, look=True)

    async def give_back(self, tenant_id: UUID, gpu_seconds: float) -> None:
        """Nothing came of what they were spent on."""
        await self._take(tenant_id, Policy.GPU_SECONDS, -gpu_seconds)

    def seen(self, tenant_id: UUID) -> Mapping[Policy, tuple[Rate, Taken]]:
        """The tenant's buckets as this process last saw them; none without limits."""
        return self._seen.get(tenant_id, {})

    async def close(self) -> None:
        await self._buckets.close()

    async def _take(
        self, tenant_id: UUID, policy: Policy, cost: float, *, look: bool = False
    ) -> None:
        rate = policy.rate(await self.tenants.of(tenant_id))
        if rate is None:
            self._seen.get(tenant_id, {}).pop(policy, None)
            return
        ask = self._buckets.look if look else self._buckets.take
        taken = await ask(f"{tenant_id}:{policy}", rate, cost)
        if len(self._seen) >= _MOST_TOLD:
            self._seen.clear()
        self._seen.setdefault(tenant_id, {})[policy] = (rate, taken)
        if not taken.given:
            what = "requests" if policy is Policy.REQUESTS else "predicted GPU seconds"
            raise RateLimitExceeded(
                f"This tenant may use {rate.per_s * _MINUTE_S:g} {what} a minute, {rate.burst:g} of"
                f" them at once; try again in {taken.wait_s:.1f} s.",
                retry_after_s=math.ceil(taken.wait_s),
            )
