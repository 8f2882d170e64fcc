"""What a webhook is sent: the events that are kept, as Standard Webhooks has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field, create_model

from serve.events.event import EventType
from serve.events.schemas import JOB_EVENTS, JobEvent


class WebhookHeaders(BaseModel):
    """What a receiver verifies the body by."""

    id: str = Field(alias="webhook-id", description="The same for every repetition.")
    timestamp: str = Field(alias="webhook-timestamp", description="Unix seconds of this try.")
    signature: str = Field(
        alias="webhook-signature",
        description="`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64; for a day after a"
        " rotation, one by the previous secret as well, after a space.",
    )


class Place(BaseModel):
    """Which event it is, beside what it tells."""

    job_id: UUID
    seq: int = Field(ge=1, description="The event's number within its job, which is the order.")


def _webhook_event(event: type[JobEvent[Any]]) -> type[BaseModel]:
    name = f"{event.__name__}Webhook"
    kind: Any = event.model_fields["type"].annotation
    told: Any = event.model_fields["data"].annotation
    data: type[BaseModel] = create_model(f"{name}Data", __base__=(told, Place))
    return create_model(
        name,
        __doc__=event.__doc__,
        type=(kind, ...),
        timestamp=(datetime, Field(description="When it happened.")),
        data=(data, ...),
    )


WEBHOOK_EVENTS: dict[EventType, type[BaseModel]] = {
    type_: _webhook_event(event)
    for type_, event in JOB_EVENTS.items()
    if type_ is not EventType.PROGRESS
}
