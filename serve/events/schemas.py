"""Messages of the events WebSocket, in both directions, and the data of each type of event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

from serve.events.event import EventType
from serve.http.fields import StrictBody
from serve.http.problems import Problem
from serve.pictures.schemas import JobWarning

DataT = TypeVar("DataT", bound=BaseModel)
JobId = Annotated[UUID, Field(strict=False)]


class Authenticate(StrictBody):
    """The first message of a client that cannot send headers: a browser."""

    type: Literal["authenticate"]
    key: str


class Watch(StrictBody):
    """Follow a job; `after` is the number of the last event that was seen."""

    type: Literal["watch"]
    job_id: JobId
    after: int = Field(0, ge=0, le=2**31 - 1)


class Unwatch(StrictBody):
    """Follow the job no longer."""

    type: Literal["unwatch"]
    job_id: JobId


class WatchAll(StrictBody):
    """Follow every job that has not ended, and those to come."""

    type: Literal["watch_all"]


class Ack(StrictBody):
    """So many messages of this connection, of every type, have been received in all."""

    type: Literal["ack"]
    messages: int = Field(ge=0)


ClientMessage = Annotated[
    Authenticate | Watch | Unwatch | WatchAll | Ack, Field(discriminator="type")
]
client_message: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


class Authenticated(BaseModel):
    """The key was taken."""

    type: Literal["authenticated"] = "authenticated"


class ErrorOut(BaseModel):
    """A message could not be followed; the connection stays."""

    type: Literal["error"] = "error"
    problem: Problem
    job_id: UUID | None = None


ServerMessage = Authenticated | ErrorOut
"""What answers a client's message; events are sent as `Event.text`."""


class TicketOut(BaseModel):
    ticket: str = Field(description="Opens `GET /v1/events?ticket=…` once.")
    expires_in: int = Field(description="Seconds.")


class Nothing(BaseModel):
    """The type says it all."""


class Accepted(BaseModel):
    """What was asked for."""

    n: int = Field(description="Pictures.")
    model: str
    prompt: str


class Step(BaseModel):
    """A picture's denoising, so far."""

    image_id: UUID
    index: int = Field(description="Which of the job's pictures, from 0.")
    step: int = Field(description="Denoising steps done.")
    steps: int = Field(description="Denoising steps in all.")
    preview: str | None = Field(
        None, description="Now and then, a small WebP as `data:image/webp;base64,…`."
    )


class Stored(BaseModel):
    """A picture whose files are committed."""

    image_id: UUID
    index: int = Field(description="Which of the job's pictures, from 0.")
    variants: list[str] = Field(description="Its files, at `/v1/images/{image_id}/{variant}`.")
    drawing_s: float = Field(description="Seconds from prompt to pixels, in its step batch.")
    storing_s: float = Field(description="Seconds that encoding and storing it took.")
    warnings: list[JobWarning] = Field(
        [], description="What the model did not read of the prompts; left out where it read all."
    )


class Failure(BaseModel):
    """Why, and which picture failed the job where it was one of them."""

    error: str
    code: str | None = Field(
        None, description="More than that it failed, as `content_policy_violation`."
    )
    image_id: UUID | None = None
    index: int | None = None


class Missed(BaseModel):
    """Which deadline passed."""

    error: str


class JobEvent(BaseModel, Generic[DataT]):
    """The fields that every event has."""

    type: EventType
    job_id: UUID
    seq: int | None
    created_at: datetime
    data: DataT


Seq = Annotated[int, Field(ge=1, description="Its number within the job: 1..n, without gaps.")]


class JobQueued(JobEvent[Accepted]):
    """The job was accepted."""

    type: Literal[EventType.QUEUED]
    seq: Annotated[Literal[1], Field(description="Always the first.")]


class JobRunning(JobEvent[Nothing]):
    """The first of its pictures is being drawn."""

    type: Literal[EventType.RUNNING]
    seq: Seq


class ImageProgress(JobEvent[Step]):
    """Progress of one picture: it is not stored, and never repeated."""

    type: Literal[EventType.PROGRESS]
    seq: None


class ImageSucceeded(JobEvent[Stored]):
    """A picture is there."""

    type: Literal[EventType.IMAGE_SUCCEEDED]
    seq: Seq


class JobSucceeded(JobEvent[Nothing]):
    """Every picture is there: the job's last event."""

    type: Literal[EventType.SUCCEEDED]
    seq: Seq


class JobFailed(JobEvent[Failure]):
    """The pictures could not be made: the job's last event."""

    type: Literal[EventType.FAILED]
    seq: Seq


class JobCancelled(JobEvent[Nothing]):
    """Its owner cancelled it: the job's last event."""

    type: Literal[EventType.CANCELLED]
    seq: Seq


class JobExpired(JobEvent[Missed]):
    """Its deadline passed: the job's last event."""

    type: Literal[EventType.EXPIRED]
    seq: Seq


JOB_EVENTS: dict[EventType, type[JobEvent]] = {  # type: ignore[type-arg]  # of every data
    EventType.QUEUED: JobQueued,
    EventType.RUNNING: JobRunning,
    EventType.PROGRESS: ImageProgress,
    EventType.IMAGE_SUCCEEDED: ImageSucceeded,
    EventType.SUCCEEDED: JobSucceeded,
    EventType.FAILED: JobFailed,
    EventType.CANCELLED: JobCancelled,
    EventType.EXPIRED: JobExpired,
}
