"""Each tenant's rate limits: of requests that change something, and of predicted GPU seconds."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access.buckets import Buckets, Rate, Taken
from serve.access.keys import Principal
from serve.access.remembered import Bounded
from serve.access.tenants import TenantLimits
from serve.database import Database
from serve.errors import ServiceError
from serve.observability.meter import UNMETERED, Meter
from serve.settings import LimitSettings, Settings

_MINUTE_S = 60.0


class Policy(StrEnum):
    """What is limited, by the name that clients read."""

    REQUESTS = "requests"
    GPU_SECONDS = "gpu-seconds"

    def rate(self, limits: LimitSettings) -> Rate | None:
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
    """Takes from each tenant's buckets, and remembers what was left in them."""

    def __init__(self, database: Database, settings: Settings, meter: Meter = UNMETERED) -> None:
        """Raises ValueError where there is no REDIS_URL."""
        if settings.redis_url is None:
            raise ValueError("Set REDIS_URL, or use `sfumato up`, which starts a Valkey.")
        self.tenants = TenantLimits(database, settings.limits, meter)
        self._buckets = Buckets(settings.redis_url.get_secret_value(), settings.scaling.ingress_max)
        self._last: Bounded[UUID, dict[Policy, Taken]] = Bounded()

    async def take(
        self, tenant_id: UUID, policy: Policy, cost: float, *, check_only: bool = False
    ) -> None:
        """Take from the tenant's bucket; below zero it is given back.

        Raises:
            RateLimitExceeded: the tenant has to wait; nothing is taken.
        """
        rate = policy.rate(await self.tenants.of(tenant_id))
        if rate is None:
            self._last.get(tenant_id, {}).pop(policy, None)
            return
        take = self._buckets.look if check_only else self._buckets.take
        taken = await take(f"{tenant_id}:{policy}", rate, cost)
        self._last[tenant_id] = {**self._last.get(tenant_id, {}), policy: taken}
        if not taken.given:
            unit = "requests" if policy is Policy.REQUESTS else "predicted GPU seconds"
            raise RateLimitExceeded(
                f"This tenant may use {rate.per_s * _MINUTE_S:g} {unit} a minute, {rate.burst:g} of"
                f" them at once; try again in {taken.wait_s:.1f} s.",
                retry_after_s=math.ceil(taken.wait_s),
            )

    def fields(self, tenant_id: UUID) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.

        They describe a bucket of ``q`` that fills in ``w`` seconds, of which ``r`` are left and
        which is full in ``t`` seconds, as this process last knew it. There are none where the
        tenant has no limits, or where nothing was taken from its buckets yet.
        """
        policies, states = [], []
        for name, taken in self._last.get(tenant_id, {}).items():
            unit = "" if name is Policy.REQUESTS else f';qu="{name}"'
            depth_s = math.ceil(taken.rate.depth_s)
            policies.append(f'"{name}";q={int(taken.rate.burst)};w={depth_s}{unit}')
            states.append(f'"{name}";r={int(taken.remaining)};t={math.ceil(taken.full_in_s)}')
        if not policies:
            return {}
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}

    async def close(self) -> None:
        await self._buckets.close()


class RateLimitFields:
    """Adds `RateLimits.fields` to every answer to a caller that is known."""

    def __init__(self, app: ASGIApp, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_fields(message: Message) -> None:
            caller: Principal | None = scope.get("state", {}).get("principal")
            if message["type"] == "http.response.start" and caller is not None:
                fields = self._limits.fields(caller.tenant_id)
                MutableHeaders(scope=message).update(fields)
            await send(message)

        await self._app(scope, receive, send_with_fields)
