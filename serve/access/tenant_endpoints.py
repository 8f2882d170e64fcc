"""Tenants, for whoever operates the service."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from serve.access.auth import Operator
from serve.access.guarded_route import GuardedRoute
from serve.access.ledger import Ledger
from serve.access.tenant_schemas import TenantBody, TenantChange, TenantList, TenantOut
from serve.access.tenants import Tenants
from serve.http.address import path_to
from serve.http.documented import problems
from serve.http.page import Page
from serve.http.provided import Provided

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


@router.post(
    "/v1/tenants",
    status_code=201,
    summary="Make a tenant",
    responses=problems(400, 401, 409, 413, 422, 429),
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


@router.get("/v1/tenants", summary="List tenants", responses=problems(401, 422))
async def list_tenants(
    page: Annotated[Page, Query()], _caller: Operator, tenants: Provided[Tenants]
) -> TenantList:
    """The newest first."""
    found = await tenants.list(limit=page.limit_and_one, after=page.last_seen("tenants"))
    shown, following = page.cut(found, "tenants")
    return TenantList(
        data=[TenantOut.of(tenant) for tenant in shown],
        has_more=bool(following),
        next=following,
    )


@router.get(
    "/v1/tenants/{tenant_id}", summary="Look at a tenant", responses=problems(401, 404, 422)
)
async def get_tenant(tenant_id: UUID, _caller: Operator, tenants: Provided[Tenants]) -> TenantOut:
    """Its weight and its own limits."""
    return TenantOut.of(await tenants.get(tenant_id))


@router.patch(
    "/v1/tenants/{tenant_id}",
    summary="Change a tenant",
    responses=problems(400, 401, 404, 413, 422, 429),
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
