"""Errors of webhooks that a client sees."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class WebhookNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "webhook_not_found"
    title: ClassVar[str] = "No such webhook"


class DeliveryNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "delivery_not_found"
    title: ClassVar[str] = "No such delivery"


class DeliveryNotDead(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "delivery_not_dead"
    title: ClassVar[str] = "The delivery is not dead"


class WebhookDisabled(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "webhook_disabled"
    title: ClassVar[str] = "The webhook is disabled"


class TooManyWebhooks(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "too_many_webhooks"
    title: ClassVar[str] = "Too many webhooks"


class InvalidUrl(ServiceError):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "invalid_url"
    title: ClassVar[str] = "Invalid URL"
