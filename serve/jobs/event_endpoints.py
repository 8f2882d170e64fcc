"""One job's events by Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from serve.access.auth import GuardedRoute, Reader
from serve.access.keys import Keys
from serve.events.feed import Feeds, JobNotFound
from serve.events.sse import stream_events
from serve.events.tally import EventTally
from serve.http.documented import problems
from serve.http.errors import NothingToCome
from serve.http.provided import Provided
from serve.jobs.lifecycle import Jobs

router = APIRouter(tags=["events"], route_class=GuardedRoute)

_MAX_SEQ = 2**31 - 1


class StreamQuery(BaseModel):
    """What of a job's events is asked for."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=_MAX_SEQ, description="The last number that was seen.")
    previews: bool = Field(False, description="Whether progress carries previews.")


async def _resume_after(
    job_id: UUID,
    query: Annotated[StreamQuery, Query()],
    caller: Reader,
    jobs: Provided[Jobs],
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=_MAX_SEQ, description="As `after`; EventSource sends it, and it wins."),
    ] = None,
) -> int:
    """Where the stream begins; whatever is wrong is answered here, before it does."""
    after = query.after if last_event_id is None else last_event_id
    job = await jobs.get(caller.tenant_id, job_id)
    if job.state.terminal and after >= job.last_seq:
        raise NothingToCome
    return after


@router.head("/v1/jobs/{job_id}/events", include_in_schema=False)
async def look_at_stream(
    _caller: Reader, _after: Annotated[int, Depends(_resume_after)]
) -> Response:
    """What a stream would begin with; none is opened."""
    return Response(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        204: {"description": "The job has ended, and its last event was seen: do not come back."},
        **problems(JobNotFound),
    },
)
async def follow_job(
    job_id: UUID,
    query: Annotated[StreamQuery, Query()],
    after: Annotated[int, Depends(_resume_after)],
    caller: Reader,
    feeds: Provided[Feeds],
    keys: Provided[Keys],
    tally: Provided[EventTally],
    request: Request,
) -> AsyncIterator[ServerSentEvent]:
    """Server-Sent Events until the job's terminal one. `id` is the number of those that are kept;
    resuming after it brings the rest, each once. Progress, which has none, comes until a stream's
    budget for it is spent."""
    stopping = request.app.state.stopping
    events = stream_events(
        feeds, keys, tally, stopping, caller, job_id, after, previews=query.previews
    )
    async for event in events:
        yield event
