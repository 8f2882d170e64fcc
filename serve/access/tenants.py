"""Tenants, the owners of keys, jobs and pictures, and the limits of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

import structlog

from serve.access import repository
from serve.access.remembered import Remembered
from serve.database import Database, DatabaseUnavailable
from serve.errors import ServiceError
from serve.observability.meter import UNMETERED, Meter
from serve.settings import LimitSettings
from serve.tables import Tenant

log = structlog.get_logger(__name__)


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
    """What an operator does with tenants.

    ``values`` are columns: ``weight`` and the fields of ``LimitSettings``, None for the settings'.
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
        if tenant is None:
            raise TenantNotFound(f"There is no tenant {tenant_id}.")
        return tenant

    async def list(self, *, limit: int, after: UUID | None) -> Sequence[Tenant]:
        """Tenants older than ``after``, newest first."""
        async with self._database.transaction() as session:
            return await repository.tenants_before(session, limit, after)

    async def change(self, tenant_id: UUID, values: Mapping[str, object]) -> Tenant:
        """The tenant with these values.

        Raises:
            TenantNotFound: there is none.
        """
        if values:
            async with self._database.transaction() as session:
                await repository.change_tenant(session, tenant_id, values)
        return await self.get(tenant_id)


class TenantLimits(Remembered[UUID, LimitSettings]):
    """Each tenant's limits: its own before the settings'. Old ones hold while Postgres is away."""

    def __init__(
        self, database: Database, defaults: LimitSettings, meter: Meter = UNMETERED
    ) -> None:
        super().__init__("limits", self._limits, meter)
        self._database = database
        self._defaults = defaults

    async def _limits(self, tenant_id: UUID) -> LimitSettings:
        try:
            async with self._database.transaction() as session:
                tenant = await repository.tenant_by_id(session, tenant_id)
        except DatabaseUnavailable as error:
            if tenant_id not in self._known:
                raise
            log.warning("limits.database_unavailable", error=error.message)
            return self._known[tenant_id][1]
        own = {name: getattr(tenant, name, None) for name in LimitSettings.model_fields}
        return self._defaults.model_copy(
            update={name: limit for name, limit in own.items() if limit is not None}
        )
