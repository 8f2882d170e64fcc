"""Keys, tenants and usage: of the caller's tenant; of any tenant, for an operator."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from serve.access.auth import Admin, GuardedRoute, Operator, Reader
from serve.access.keys import KeyNotFound, Keys, Principal
from serve.access.ledger import Ledger
from serve.access.schemas import (
    KeyBody,
    KeyList,
    KeyOut,
    KeyPage,
    NewKey,
    TenantBody,
    TenantChange,
    TenantList,
    TenantOut,
    UsageOut,
    UsageQuery,
)
from serve.access.scopes import Scope
from serve.access.tenants import TenantExists, TenantNotFound, Tenants
from serve.http.address import path_to
from serve.http.documented import problems, success
from serve.http.errors import InvalidValue
from serve.http.page import Page
from serve.http.provided import Provided

keys_router = APIRouter(tags=["keys"], route_class=GuardedRoute)


@keys_router.post(
    "/v1/keys",
    status_code=201,
    summary="Make a key",
    responses={**success(201, ("Cache-Control",)), **problems(TenantNotFound)},
)
async def make_key(
    body: KeyBody,
    response: Response,
    caller: Admin,
    keys: Provided[Keys],
    tenants: Provided[Tenants],
) -> NewKey:
    """The key is in this answer only."""
    if Scope.OPERATOR in body.scopes:
        caller.require(Scope.OPERATOR)
    tenant = await tenants.get(tenant_meant(caller, body.tenant_id))
    token, key = await keys.create(tenant.name, body.name, body.scopes, body.expires_in_s)
    response.headers["Cache-Control"] = "no-store"
    return NewKey.telling(token, key)


@keys_router.get("/v1/keys", summary="List keys", responses=problems())
async def list_keys(
    page: Annotated[KeyPage, Query()], caller: Admin, keys: Provided[Keys]
) -> KeyList:
    """The newest first, revoked and expired ones too."""
    tenant_id = tenant_meant(caller, page.tenant_id)
    of = ("keys", tenant_id)
    found = await keys.page(tenant_id, limit=page.limit_and_one, after=page.last_seen(*of))
    return KeyList(**page.answer(found, KeyOut.of, *of))


@keys_router.delete(
    "/v1/keys/{key_id}",
    status_code=204,
    summary="Revoke a key",
    responses=problems(KeyNotFound),
)
async def revoke_key(key_id: UUID, caller: Admin, keys: Provided[Keys]) -> None:
    """Every ingress shuts it out within five seconds. Repeating it is harmless."""
    await keys.revoke(key_id, caller)


def tenant_meant(caller: Principal, tenant_id: UUID | None) -> UUID:
    """The caller's own tenant unless another is named.

    Raises:
        InsufficientScope: another is, by somebody who is no operator.
    """
    if tenant_id is None or tenant_id == caller.tenant_id:
        return caller.tenant_id
    caller.require(Scope.OPERATOR)
    return tenant_id


tenants_router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


@tenants_router.post(
    "/v1/tenants",
    status_code=201,
    summary="Make a tenant",
    responses={**success(201, ("Location",)), **problems(TenantExists)},
)
async def make_tenant(
    body: TenantBody,
    request: Request,
    response: Response,
    _caller: Operator,
    tenants: Provided[Tenants],
) -> TenantOut:
    """It has no key yet: `POST /v1/keys` with its `tenant_id` makes one."""
    tenant = await tenants.create(body.name, body.values())
    response.headers["Location"] = path_to(f"/v1/tenants/{tenant.id}", request)
    return TenantOut.of(tenant)


@tenants_router.get("/v1/tenants", summary="List tenants", responses=problems())
async def list_tenants(
    page: Annotated[Page, Query()], _caller: Operator, tenants: Provided[Tenants]
) -> TenantList:
    """The newest first."""
    found = await tenants.list(limit=page.limit_and_one, after=page.last_seen("tenants"))
    return TenantList(**page.answer(found, TenantOut.of, "tenants"))


@tenants_router.get(
    "/v1/tenants/{tenant_id}", summary="Look at a tenant", responses=problems(TenantNotFound)
)
async def get_tenant(tenant_id: UUID, _caller: Operator, tenants: Provided[Tenants]) -> TenantOut:
    """Its weight and its own limits."""
    return TenantOut.of(await tenants.get(tenant_id))


@tenants_router.patch(
    "/v1/tenants/{tenant_id}",
    summary="Change a tenant",
    responses=problems(TenantNotFound),
)
async def change_tenant(
    tenant_id: UUID,
    body: TenantChange,
    _caller: Operator,
    tenants: Provided[Tenants],
    ledger: Provided[Ledger],
) -> TenantOut:
    """Its weight and its limits; every ingress holds to them within five seconds."""
    tenant = await tenants.change(tenant_id, body.values())
    ledger.forget(tenant_id)
    return TenantOut.of(tenant)


usage_router = APIRouter(tags=["usage"], route_class=GuardedRoute)

MAX_DAYS = 366


@usage_router.get(
    "/v1/usage", summary="Look at usage and quota", responses=problems(TenantNotFound)
)
async def get_usage(
    query: Annotated[UsageQuery, Query()],
    caller: Reader,
    tenants: Provided[Tenants],
    ledger: Provided[Ledger],
) -> UsageOut:
    """Jobs, pictures and predicted GPU seconds by day and model. A job counts when it is accepted;
    pictures that were not begun when it was cancelled or expired are given back, and those that a
    failed job did not bring."""
    tenant_id = tenant_meant(caller, query.tenant_id)
    if tenant_id != caller.tenant_id:
        await tenants.get(tenant_id)
    report = await ledger.read(tenant_id, query.since, query.until)
    if not 0 <= (report.until - report.since).days < MAX_DAYS:
        raise InvalidValue(
            f"since: a period has 1 to {MAX_DAYS} days; {report.since} to {report.until} has not.",
            param="since",
        )
    return UsageOut.of(tenant_id, report)
