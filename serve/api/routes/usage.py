"""What was used, and what is left."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serve.api.auth import Reader, ServicesDep
from serve.api.documented import problems
from serve.api.errors import InvalidValue
from serve.api.guarded_route import GuardedRoute
from serve.api.routes.keys import tenant_meant
from serve.api.schemas.usage import UsageOut, UsageQuery

router = APIRouter(tags=["usage"], route_class=GuardedRoute)

MAX_DAYS = 366


@router.get("/v1/usage", summary="Look at usage and quota", responses=problems(401, 404, 422))
async def get_usage(
    query: Annotated[UsageQuery, Query()], caller: Reader, services: ServicesDep
) -> UsageOut:
    """Jobs, pictures and predicted GPU seconds by day and model. A job counts when it is accepted;
    pictures that were not begun when it was cancelled or expired are given back, and those that a
    failed job did not bring."""
    tenant_id = tenant_meant(caller, query.tenant_id)
    if tenant_id != caller.tenant_id:
        await services.tenants.get(tenant_id)
    report = await services.jobs.ledger.read(tenant_id, query.since, query.until)
    if not 0 <= (report.until - report.since).days < MAX_DAYS:
        raise InvalidValue(
            f"since: a period has 1 to {MAX_DAYS} days; {report.since} to {report.until} has not.",
            param="since",
        )
    return UsageOut.of(tenant_id, report)
