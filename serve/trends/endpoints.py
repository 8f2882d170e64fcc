"""What is asked for and liked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serve.access.auth import GuardedRoute, Reader
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.trends.schemas import TrendList, TrendOut, TrendQuery
from serve.trends.trends import Trends

router = APIRouter(tags=["trends"], route_class=GuardedRoute)


@router.get("/v1/trends", summary="Look at trends", responses=problems())
async def list_trends(
    query: Annotated[TrendQuery, Query()], caller: Reader, trends: Provided[Trends]
) -> TrendList:
    """Subjects, styles and colours of prompts; of other tenants' those alone that several share."""
    found = await trends.list(
        caller.tenant_id if query.scope == "mine" else None,
        query.window,
        kind=query.kind,
        order=query.order,
        limit=query.limit,
    )
    return TrendList(data=[TrendOut.of_row(each) for each in found], window=query.window)
