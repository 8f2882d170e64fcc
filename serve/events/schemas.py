"""Messages of the events WebSocket, in both directions, and the data of each type of event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter, create_model

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
    blurhash: str | None = Field(None, description="The picture's BlurHash.")
    drawing_s: float = Field(description="Seconds from prompt to pixels, in its step batch.")
    storing_s: float = Field(description="Seconds that encoding and storing it took.")
    warnings: list[JobWarning] = Field(
        [], description="What the model did not read of the prompts; left out where it read all."
    )


class Done(BaseModel):
    """Which picture is kept, where only one is."""

    kept: int | None = Field(
        None, description="Index of the picture that an autonomous job kept; else left out."
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


_FIRST = Annotated[Literal[1], Field(description="Always the first.")]
_NUMBERED = Annotated[
    int, Field(ge=1, description="Its number within the job: 1..n, without gaps.")
]
_EVENTS: dict[EventType, tuple[Any, type[BaseModel], str]] = {
    EventType.QUEUED: (_FIRST, Accepted, "The job was accepted."),
    EventType.RUNNING: (_NUMBERED, Nothing, "The first of its pictures is being drawn."),
    EventType.PROGRESS: (
        None,
        Step,
        "Progress of one picture: it is not stored, and never repeated.",
    ),
    EventType.IMAGE_SUCCEEDED: (_NUMBERED, Stored, "A picture is there."),
    EventType.SUCCEEDED: (_NUMBERED, Done, "Every picture is there: the job's last event."),
    EventType.FAILED: (
        _NUMBERED,
        Failure,
        "The pictures could not be made: the job's last event.",
    ),
    EventType.CANCELLED: (_NUMBERED, Nothing, "Its owner cancelled it: the job's last event."),
    EventType.EXPIRED: (_NUMBERED, Missed, "Its deadline passed: the job's last event."),
}
"""The type of each one's number, its data, and what happened."""


def _job_event(type_: EventType) -> type[JobEvent[Any]]:
    """The model of ``job.queued`` is named ``JobQueued``."""
    seq, data, meaning = _EVENTS[type_]
    own_type: Any = Literal[type_]
    return create_model(
        type_.value.title().replace(".", ""),
        __base__=JobEvent[data],  # type: ignore[valid-type]
        __doc__=meaning,
        type=(own_type, ...),
        seq=(seq, ...),
    )


JOB_EVENTS = {type_: _job_event(type_) for type_ in _EVENTS}
