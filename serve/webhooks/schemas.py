"""Webhooks as clients send and see them, and what a webhook is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, create_model

from serve.access.keys import Principal
from serve.access.scopes import Scope
from serve.events.event import EventType
from serve.events.schemas import JOB_EVENTS, JobEvent
from serve.http.fields import RowOut, StrictBody, Text
from serve.http.page import Listing, Page
from serve.tables import Delivery, Webhook
from serve.webhooks.repository import DeliveryState
from serve.webhooks.signature import spell

_TERMINAL = tuple(event for event in EventType if event.terminal)
_EXAMPLE = "https://example.com/hooks/sfumato"


def _durable(events: list[EventType]) -> list[EventType]:
    """Progress is never stored, and therefore never delivered."""
    if EventType.PROGRESS in events:
        raise ValueError(f"{EventType.PROGRESS} is not stored; follow it on /v1/events")
    return list(dict.fromkeys(events))


def _masked(url: str) -> str:
    """Where the URL leads, without its user, path and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


class WebhookBody(StrictBody):
    """Where to send which events."""

    url: Text = Field(
        description="https, a public address, port 443, 80 or one from 1024 on.",
        examples=[_EXAMPLE],
    )
    events: (
        Annotated[
            list[Annotated[EventType, Field(strict=False)]],
            Field(min_length=1, max_length=len(EventType)),
            AfterValidator(_durable),
        ]
        | None
    ) = Field(
        None,
        description="The types to send; where left out, those that end a job.",
        examples=[["job.succeeded", "job.failed"]],
    )

    @property
    def chosen(self) -> list[EventType]:
        return list(_TERMINAL) if self.events is None else self.events


class WebhookOut(RowOut):
    """A webhook as it stands."""

    id: UUID
    url: str = Field(
        description="To keys that may not manage webhooks as `https://example.com/…`: the rest may"
        " hold a secret of the receiver's.",
        examples=[_EXAMPLE],
    )
    events: list[str] = Field(examples=[["job.succeeded", "job.failed"]])
    created_at: datetime
    rotated_at: datetime | None = Field(description="When its secret was last changed.")
    disabled_at: datetime | None = Field(description="When its receiver answered 410 Gone.")

    @classmethod
    def of(cls, webhook: Webhook, caller: Principal) -> Self:
        """As the caller may see it."""
        url = webhook.url if Scope.ADMIN in caller.scopes else _masked(webhook.url)
        return cls.of_row(webhook, url=url)


class WebhookWithSecret(WebhookOut):
    """The only answers that tell the secret: to the creation and to a rotation."""

    secret: str = Field(
        description="What deliveries are signed with; keep it; it is not shown again.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )

    @classmethod
    def of(cls, webhook: Webhook, caller: Principal) -> Self:
        return cls(**dict(WebhookOut.of(webhook, caller)), secret=spell(webhook.secret))


class WebhookList(BaseModel):
    """Every one, oldest first."""

    data: list[WebhookOut]


class DeliveryPage(Page):
    """Query parameters of the list of deliveries."""

    state: DeliveryState | None = Field(
        None, description="`dead` is the dead-letter list; all where left out."
    )


class DeliveryOut(RowOut):
    """One event on its way to one webhook."""

    id: UUID
    webhook_id: UUID
    job_id: UUID
    seq: int = Field(description="The event's number within its job.", examples=[4])
    type: str = Field(examples=["job.succeeded"])
    state: DeliveryState = Field(examples=["dead"])
    attempts: int = Field(
        description="Tries so far, or since the last retry that was asked for.", examples=[8]
    )
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next, at the earliest.")
    delivered_at: datetime | None
    failed_at: datetime | None = Field(
        description="When it was given up.", examples=["2026-11-24T11:26:40.903217Z"]
    )
    last_status: int | None = Field(description="The receiver's last HTTP status.", examples=[503])
    last_error: str | None = Field(examples=["The receiver answered 503."])

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        state = DeliveryState.of(delivery)
        next_at = delivery.next_at if state is DeliveryState.PENDING else None
        return cls.of_row(delivery, state=state, next_at=next_at)


class DeliveryList(Listing[DeliveryOut]):
    """Newest first; `next` is the `after` of the next page."""


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
    data_type: Any = event.model_fields["data"].annotation
    data: type[BaseModel] = create_model(f"{name}Data", __base__=(data_type, Place))
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
