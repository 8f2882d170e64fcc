"""What is asked for and liked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from serve.access.auth import GuardedRoute, Reader
from serve.answer_cache import EVERYBODY, AnswerCache, Cached
from serve.http.documented import problems
from serve.http.provided import Provided
from serve.http.tagged import TAGGED, IfNoneMatch, tagged_json
from serve.trends.schemas import TrendList, TrendOut, TrendQuery
from serve.trends.trends import Trends

router = APIRouter(tags=["trends"], route_class=GuardedRoute)


@router.get(
    "/v1/trends",
    summary="Look at trends",
    response_model=TrendList,
    responses={**TAGGED, **problems()},
)
async def list_trends(
    query: Annotated[TrendQuery, Query()],
    caller: Reader,
    trends: Provided[Trends],
    answers: Provided[AnswerCache],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Subjects, styles and colours of prompts; of other tenants' those alone that several share."""
    tenant_id = caller.tenant_id if query.scope == "mine" else None

    async def read() -> bytes:
        found = await trends.list(
            tenant_id, query.window, kind=query.kind, order=query.order, limit=query.limit
        )
        told = TrendList(data=[TrendOut.of_row(each) for each in found], window=query.window)
        return told.model_dump_json().encode()

    owner = tenant_id or EVERYBODY
    answer = await answers.get(Cached.TRENDS, owner, query.model_dump_json(), read)
    return tagged_json(answer, if_none_match)
