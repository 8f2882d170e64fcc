"""Webhooks and deliveries as clients send and see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from serve.access.keys import Principal
from serve.access.scopes import Scope
from serve.events.event import EventType
from serve.http.page import Page
from serve.http.strict import StrictBody, Text
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


class WebhookOut(BaseModel):
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
        return cls(
            id=webhook.id,
            url=webhook.url if Scope.ADMIN in caller.scopes else _masked(webhook.url),
            events=webhook.events,
            created_at=webhook.created_at,
            rotated_at=webhook.rotated_at,
            disabled_at=webhook.disabled_at,
        )


class WebhookWithSecret(WebhookOut):
    """The only answers that tell the secret: to the creation and to a rotation."""

    secret: str = Field(
        description="What deliveries are signed with; keep it, it is not told again.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
    )

    @classmethod
    def of(cls, webhook: Webhook, caller: Principal) -> Self:
        return cls(**dict(WebhookOut.of(webhook, caller)), secret=spell(webhook.secret))


class WebhookList(BaseModel):
    """Every one, oldest first."""

    data: list[WebhookOut]


class DeliveryPage(Page):
    """Which deliveries are asked for."""

    state: DeliveryState | None = Field(
        None, description="`dead` is the dead-letter list; all where left out."
    )


class DeliveryOut(BaseModel):
    """One event on its way to one webhook."""

    id: UUID
    webhook_id: UUID
    job_id: UUID
    seq: int = Field(description="The event's number within its job.")
    type: str = Field(examples=["job.succeeded"])
    state: DeliveryState
    attempts: int = Field(description="Tries so far, or since the last retry that was asked for.")
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next, at the earliest.")
    delivered_at: datetime | None
    failed_at: datetime | None = Field(description="When it was given up.")
    last_status: int | None = Field(description="The receiver's last HTTP status.", examples=[503])
    last_error: str | None = Field(examples=["The receiver answered 503."])

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        state = DeliveryState.of(delivery)
        return cls(
            id=delivery.id,
            webhook_id=delivery.webhook_id,
            job_id=delivery.job_id,
            seq=delivery.seq,
            type=delivery.type,
            state=state,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            next_at=delivery.next_at if state is DeliveryState.PENDING else None,
            delivered_at=delivery.delivered_at,
            failed_at=delivery.failed_at,
            last_status=delivery.last_status,
            last_error=delivery.last_error,
        )


class DeliveryList(BaseModel):
    """Newest first; `next` is the `after` of the next page."""

    data: list[DeliveryOut]
    has_more: bool
    next: str | None
