"""What goes over the events WebSocket, in both directions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

from serve.events.bus import EventType
from serve.http.fields import StrictBody
from serve.http.problems import Problem

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


class EventOut(BaseModel):
    """Something that happened; `seq` is null for progress, which is never replayed.

    Sent as `Event.text`, which is made once a process.
    """

    type: EventType
    job_id: UUID
    seq: int | None
    created_at: datetime
    data: dict[str, Any]


class ErrorOut(BaseModel):
    """A message could not be followed; the connection stays."""

    type: Literal["error"] = "error"
    problem: Problem
    job_id: UUID | None = None


ServerMessage = Authenticated | EventOut | ErrorOut
