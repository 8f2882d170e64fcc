"""Tenants: the owners of keys, jobs and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

from serve.access import repository
from serve.database import Database
from serve.errors import ServiceError
from serve.tables import Tenant


class TenantNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "tenant_not_found"
    title: ClassVar[str] = "No such tenant"


class TenantExists(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "tenant_exists"
    title: ClassVar[str] = "There is such a tenant"


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
