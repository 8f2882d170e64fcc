"""How much a tenant may ask for, and the memory that spares a query for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from time import monotonic
from typing import Self
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable
from serve.models import Tenant
from serve.security import repository
from serve.settings import LimitSettings

log = structlog.get_logger(__name__)

FRESH_S = 5.0
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Of one tenant; 0 is no limit. GPU seconds are predicted ones, as jobs are priced."""

    requests_per_minute: float = 0
    """Of requests that change something."""
    gpu_seconds_per_minute: float = 0
    gpu_seconds_burst: float = 0
    """What may be asked for at once; 0 is a minute's worth."""
    gpu_seconds_per_month: float = 0

    @classmethod
    def of_settings(cls, settings: LimitSettings) -> Self:
        return cls(**dict(settings))

    def with_overrides(self, tenant: Tenant | None) -> Self:
        """These, but what is set for the tenant itself."""
        own = {name: getattr(tenant, name, None) for name in self.__slots__}
        return replace(self, **{name: limit for name, limit in own.items() if limit is not None})


class TenantLimitsCache:
    """Knows each tenant's limits to ``FRESH_S`` seconds.

    Older ones hold while Postgres is asked again, so that nobody who is refused waits for it, and
    while it is away.
    """

    def __init__(self, database: Database, defaults: TenantLimits) -> None:
        self.defaults = defaults
        self._database = database
        self._known: dict[UUID, tuple[float, TenantLimits]] = {}
        self._looking: dict[UUID, asyncio.Task[None]] = {}

    async def of(self, tenant_id: UUID) -> TenantLimits:
        """The tenant's limits.

        Raises:
            DatabaseUnavailable: they were never read, and Postgres does not answer.
        """
        known = self._known.get(tenant_id)
        if known is None:
            return await self._read(tenant_id)
        if known[0] <= monotonic() and tenant_id not in self._looking:
            self._looking[tenant_id] = asyncio.create_task(self._look(tenant_id))
        return known[1]

    def forget(self, tenant_id: UUID) -> None:
        """They were changed here: read them anew."""
        self._known.pop(tenant_id, None)

    async def _read(self, tenant_id: UUID) -> TenantLimits:
        async with self._database.transaction() as session:
            tenant = await repository.tenant_by_id(session, tenant_id)
        limits = self.defaults.with_overrides(tenant)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[tenant_id] = (monotonic() + FRESH_S, limits)
        return limits

    async def _look(self, tenant_id: UUID) -> None:
        try:
            await self._read(tenant_id)
        except DatabaseUnavailable as error:
            log.warning("limits.database_unavailable", error=error.message)
        finally:
            del self._looking[tenant_id]
