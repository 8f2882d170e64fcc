"""Tenants, the owners of keys, jobs and pictures, and the limits of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import ClassVar, Self
from uuid import UUID

import structlog

from serve.access import repository
from serve.database import Database, DatabaseUnavailable
from serve.errors import ServiceError
from serve.settings import LimitSettings
from serve.tables import Tenant

log = structlog.get_logger(__name__)

FRESH_S = 5.0
_MAX_TENANTS = 10_000


class TenantNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "tenant_not_found"
    title: ClassVar[str] = "No such tenant"
    example = "There is no tenant 019ab2e0-51c8-7a6e-8f10-2c7d93b4a5e1."


class TenantExists(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "tenant_exists"
    title: ClassVar[str] = "There is such a tenant"
    example = "There is a tenant 'studio' already."


class Tenants:
    """What an operator does with tenants. One transaction each.

    ``values`` are columns: ``weight`` and the fields of ``TenantLimits``, None for the settings'.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, values: Mapping[str, object]) -> Tenant:
        """A new tenant.

        Raises:
            TenantExists: there is one of that name.
        """
        async with self._database.transaction() as session:
            tenant = await repository.add_tenant(session, name, values)
        if tenant is None:
            raise TenantExists(f"There is a tenant {name!r} already.", param="name")
        return tenant

    async def get(self, tenant_id: UUID) -> Tenant:
        """The tenant.

        Raises:
            TenantNotFound: there is none.
        """
        async with self._database.transaction() as session:
            tenant = await repository.tenant_by_id(session, tenant_id)
        return _found(tenant, tenant_id)

    async def list(self, *, limit: int, after: UUID | None) -> Sequence[Tenant]:
        """Tenants older than ``after``, newest first."""
        async with self._database.transaction() as session:
            return await repository.tenants_before(session, limit, after)

    async def change(self, tenant_id: UUID, values: Mapping[str, object]) -> Tenant:
        """The tenant with these values.

        Raises:
            TenantNotFound: there is none.
        """
        if not values:
            return await self.get(tenant_id)
        async with self._database.transaction() as session:
            tenant = await repository.change_tenant(session, tenant_id, values)
        return _found(tenant, tenant_id)


def _found(tenant: Tenant | None, tenant_id: UUID) -> Tenant:
    if tenant is None:
        raise TenantNotFound(f"There is no tenant {tenant_id}.")
    return tenant


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Of one tenant; 0 is no limit. GPU seconds are predicted ones, as jobs are priced."""

    requests_per_minute: float = 0
    """Of requests that change something."""
    gpu_seconds_per_minute: float = 0
    gpu_seconds_burst: float = 0
    """The most at once; 0 is a minute's worth."""
    gpu_seconds_per_month: float = 0

    @classmethod
    def of_settings(cls, settings: LimitSettings) -> Self:
        return cls(**dict(settings))

    def with_overrides(self, tenant: Tenant | None) -> Self:
        """These, but what is set for the tenant itself."""
        own = {name: getattr(tenant, name, None) for name in self.__slots__}
        return replace(self, **{name: limit for name, limit in own.items() if limit is not None})


class TenantLimitsCache:
    """Each tenant's limits, at most ``FRESH_S`` seconds old; older while Postgres is away.

    At half that age they are read again in the background, so that a tenant with steady requests
    never waits for it.
    """

    def __init__(self, database: Database, defaults: TenantLimits) -> None:
        self._database = database
        self._defaults = defaults
        self._known: dict[UUID, tuple[float, TenantLimits]] = {}
        self._reading: dict[UUID, asyncio.Task[TenantLimits]] = {}

    async def of(self, tenant_id: UUID) -> TenantLimits:
        """The tenant's limits.

        Raises:
            DatabaseUnavailable: they were never read, and Postgres does not answer.
        """
        known = self._known.get(tenant_id)
        age_s = inf if known is None else monotonic() - known[0]
        if known is not None and age_s < FRESH_S / 2:
            return known[1]
        if tenant_id not in self._reading:
            reading = asyncio.create_task(self._read(tenant_id))
            reading.add_done_callback(_mark_retrieved)
            self._reading[tenant_id] = reading
        if known is not None and age_s < FRESH_S:
            return known[1]
        return await asyncio.shield(self._reading[tenant_id])

    def forget(self, tenant_id: UUID) -> None:
        """They were changed by this process: read them again."""
        self._known.pop(tenant_id, None)
        self._reading.pop(tenant_id, None)

    async def _read(self, tenant_id: UUID) -> TenantLimits:
        this = asyncio.current_task()
        try:
            async with self._database.transaction() as session:
                tenant = await repository.tenant_by_id(session, tenant_id)
        except DatabaseUnavailable as error:
            known = self._known.get(tenant_id)
            if known is None:
                raise
            log.warning("limits.database_unavailable", error=error.message)
            return known[1]
        else:
            limits = self._defaults.with_overrides(tenant)
            if self._reading.get(tenant_id) is this:  # else they were changed meanwhile
                if len(self._known) >= _MAX_TENANTS:
                    self._known.clear()
                self._known[tenant_id] = (monotonic(), limits)
            return limits
        finally:
            if self._reading.get(tenant_id) is this:
                del self._reading[tenant_id]


def _mark_retrieved(reading: asyncio.Task[TenantLimits]) -> None:
    """Keep asyncio from logging an error that every waiting request has received."""
    if not reading.cancelled():
        reading.exception()
