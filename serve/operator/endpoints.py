"""How the service is doing, for its operator."""

from __future__ import annotations

from fastapi import APIRouter

from serve.access.auth import GuardedRoute, Operator
from serve.database import Database
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.jobs.lifecycle import Jobs
from serve.operator.overview import read_overview
from serve.operator.schemas import Overview

router = APIRouter(prefix="/v1/operator", tags=["operator"], route_class=GuardedRoute)


@router.get("/overview", summary="Look at the whole service", responses=problems())
async def look_over(
    _caller: Operator, database: Provided[Database], jobs: Provided[Jobs]
) -> Overview:
    """Queues by pool, replicas, throughput and recent failures, of all tenants together. What was
    asked for is not among them."""
    return await read_overview(database, jobs)
