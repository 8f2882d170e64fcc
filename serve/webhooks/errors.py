"""Errors of webhooks that a client sees."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class WebhookNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "webhook_not_found"
    title: ClassVar[str] = "No such webhook"
    example = "There is no webhook 019ab2f0-1d7a-7c02-b6f3-5a9e04d2c881."


class DeliveryNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "delivery_not_found"
    title: ClassVar[str] = "No such delivery"
    example = "There is no delivery 019ab2f4-75d0-7e19-a3c8-6b1f2d904ae7."


class DeliveryNotDead(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "delivery_not_dead"
    title: ClassVar[str] = "The delivery is not dead"
    example = "The delivery is pending; only a dead one is tried again."


class WebhookDisabled(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "webhook_disabled"
    title: ClassVar[str] = "The webhook is disabled"
    example = "The receiver answered 410 Gone, which disabled the webhook; make a new one."


class TooManyWebhooks(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "too_many_webhooks"
    title: ClassVar[str] = "Too many webhooks"
    example = "There may be 10 webhooks; delete one first."


class InvalidUrl(ServiceError):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "invalid_url"
    title: ClassVar[str] = "Invalid URL"
    example = "url must begin with https://."
