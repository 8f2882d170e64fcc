"""The moves of a job's state machine, each on a locked row, each with its event.

queued → running → succeeded | failed | cancelled | expired
   └───────────────────────────── failed | cancelled | expired
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from serve.access.repository import give_back_usage
from serve.database import Session
from serve.events.event import Event, EventType
from serve.jobs import repository
from serve.jobs.repository import append_event
from serve.tables import Job, JobState

_TERMINAL_EVENT = {
    JobState.SUCCEEDED: EventType.SUCCEEDED,
    JobState.FAILED: EventType.FAILED,
    JobState.CANCELLED: EventType.CANCELLED,
    JobState.EXPIRED: EventType.EXPIRED,
}


async def start(session: Session, job: Job, now: datetime) -> list[Event]:
    """Mark a queued job as running; one that runs already gets no second event."""
    if job.state is not JobState.QUEUED:
        return []
    job.state, job.started_at = JobState.RUNNING, now
    return [await append_event(session, job, EventType.RUNNING, {})]


async def finish(
    session: Session,
    job: Job,
    state: JobState,
    now: datetime,
    *,
    error: str | None = None,
    error_code: str | None = None,
    data: dict[str, Any] | None = None,
) -> list[Event]:
    """Put the job, and every image of it that has not ended, into a terminal ``state``.

    A job that succeeds has no such image. The tenant's usage is given back for pictures that were
    not begun, and for every unfinished picture of a failed job.
    """
    ended: Sequence[tuple[JobState, float]] = []
    if state is not JobState.SUCCEEDED:
        others = state if state is not JobState.FAILED else JobState.CANCELLED
        ended = await repository.end_images(session, job.id, others, now)
    job.state, job.finished_at, job.error, job.error_code = state, now, error, error_code
    event_data = {
        **(data or {}),
        **({"error": error} if error else {}),
        **({"code": error_code} if error_code else {}),
    }
    events = [await append_event(session, job, _TERMINAL_EVENT[state], event_data)]
    if state is JobState.FAILED:
        undrawn = await repository.unfinished_seconds(session, job.id)
    else:
        undrawn = [seconds for before, seconds in ended if before is JobState.QUEUED]
    if undrawn:
        await give_back_usage(session, job, len(undrawn), sum(undrawn))
    return events
