"""A job as clients send and see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from serve.http.page import Page
from serve.http.strict import Text
from serve.jobs.picture import PictureBody
from serve.pictures.schemas import ImageOut
from serve.pictures.warning import JobWarning, warnings_of
from serve.tables import Job, JobState


class JobBody(PictureBody):
    """A job asked for; `size` or `width` and `height`, the model's own where left out."""

    width: int | None = Field(None, description="In pixels; together with `height`.")
    height: int | None = Field(None, description="In pixels; together with `width`.")


class JobPage(Page):
    """Which jobs are asked for."""

    state: JobState | None = Field(None, description="Those in this state; all where left out.")
    model: Text | None = Field(None, max_length=200, description="Those of this model.")


class JobOut(BaseModel):
    """A job as it stands."""

    id: UUID
    state: JobState
    model: str
    prompt: str
    n: int
    params: dict[str, Any] = Field(description="Every parameter, defaults filled in.")
    images: list[ImageOut]
    error: str | None = Field(description="Why it failed.")
    error_code: str | None = Field(
        description="`content_policy_violation`, `moderation_unavailable` or `unreadable_job`,"
        " where it failed so."
    )
    warnings: list[JobWarning] = Field(
        description="What the model did not read of the prompts; known once a picture is drawn."
    )
    last_seq: int = Field(description="Number of its newest event.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(
            id=job.id,
            state=job.state,
            model=job.model,
            prompt=job.prompt,
            n=job.n,
            params=job.params,
            images=[ImageOut.of(image) for image in job.images],
            error=job.error,
            error_code=job.error_code,
            warnings=warnings_of(job),
            last_seq=job.last_seq,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            deadline_at=job.deadline_at,
        )


class JobList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    data: list[JobOut]
    has_more: bool
    next: str | None
