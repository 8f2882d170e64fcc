"""Tenants, for whoever operates the service."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from serve.api.address import path_to
from serve.api.auth import Operator, ServicesDep
from serve.api.documented import problems
from serve.api.guarded_route import GuardedRoute
from serve.api.schemas.page import Page
from serve.api.schemas.tenant import TenantBody, TenantChange, TenantList, TenantOut

router = APIRouter(tags=["tenants"], route_class=GuardedRoute)


@router.post(
    "/v1/tenants",
    status_code=201,
    summary="Make a tenant",
    responses=problems(400, 401, 409, 413, 422, 429),
)
async def make_tenant(
    body: TenantBody, request: Request, response: Response, _caller: Operator, services: ServicesDep
) -> TenantOut:
    """It has no key yet: `POST /v1/keys` with its `tenant_id` makes one."""
    tenant = await services.tenants.create(body.name, body.values())
    response.headers["Location"] = path_to(f"/v1/tenants/{tenant.id}", request)
    return TenantOut.of(tenant)


@router.get("/v1/tenants", summary="List tenants", responses=problems(401, 422))
async def list_tenants(
    page: Annotated[Page, Query()], _caller: Operator, services: ServicesDep
) -> TenantList:
    """The newest first."""
    tenants = await services.tenants.list(limit=page.limit_and_one, after=page.last_seen("tenants"))
    shown, following = page.cut(tenants, "tenants")
    return TenantList(
        data=[TenantOut.of(tenant) for tenant in shown],
        has_more=bool(following),
        next=following,
    )


@router.get(
    "/v1/tenants/{tenant_id}", summary="Look at a tenant", responses=problems(401, 404, 422)
)
async def get_tenant(tenant_id: UUID, _caller: Operator, services: ServicesDep) -> TenantOut:
    """Its weight and its own limits."""
    return TenantOut.of(await services.tenants.get(tenant_id))


@router.patch(
    "/v1/tenants/{tenant_id}",
    summary="Change a tenant",
    responses=problems(400, 401, 404, 413, 422, 429),
)
async def change_tenant(
    tenant_id: UUID, body: TenantChange, _caller: Operator, services: ServicesDep
) -> TenantOut:
    """Its weight and its limits; every ingress holds to them within five seconds."""
    tenant = await services.tenants.change(tenant_id, body.values())
    services.jobs.ledger.forget(tenant_id)
    return TenantOut.of(tenant)
