"""What was used, and what is left."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serve.access.auth import Reader
from serve.access.guarded_route import GuardedRoute
from serve.access.key_endpoints import tenant_meant
from serve.access.ledger import Ledger
from serve.access.tenants import Tenants
from serve.access.usage_schemas import UsageOut, UsageQuery
from serve.http.documented import problems
from serve.http.errors import InvalidValue
from serve.http.provided import Provided

router = APIRouter(tags=["usage"], route_class=GuardedRoute)

MAX_DAYS = 366


@router.get("/v1/usage", summary="Look at usage and quota", responses=problems(401, 404, 422))
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
