"""Webhooks and their deliveries."""

from __future__ import annotations

from typing import Any

from serve.api.examples.errors import INVALID_CURSOR, no_id
from serve.api.examples.example import Example
from serve.api.examples.job import JOB_ID
from serve.webhooks.errors import (
    DeliveryNotDead,
    DeliveryNotFound,
    InvalidUrl,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)

_WEBHOOK_ID = "019ab2f0-1d7a-7c02-b6f3-5a9e04d2c881"
_DELIVERY_ID = "019ab2f4-75d0-7e19-a3c8-6b1f2d904ae7"
_WEBHOOK: dict[str, Any] = {
    "id": _WEBHOOK_ID,
    "url": "https://example.com/hooks/sfumato",
    "events": ["job.succeeded", "job.failed"],
    "created_at": "2026-11-24T05:40:12.730418Z",
    "rotated_at": None,
    "disabled_at": None,
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}
_DEAD: dict[str, Any] = {
    "id": _DELIVERY_ID,
    "webhook_id": _WEBHOOK_ID,
    "job_id": JOB_ID,
    "seq": 4,
    "type": "job.succeeded",
    "state": "dead",
    "attempts": 8,
    "created_at": "2026-11-24T05:45:02.480113Z",
    "next_at": None,
    "delivered_at": None,
    "failed_at": "2026-11-24T11:26:40.903217Z",
    "last_status": 503,
    "last_error": "The receiver answered 503.",
}
_RETRIED: dict[str, Any] = {
    **_DEAD,
    "state": "pending",
    "attempts": 0,
    "next_at": "2026-11-24T12:00:00.118390Z",
    "failed_at": None,
}
_NO_SUCH_WEBHOOK = WebhookNotFound(f"There is no webhook {_WEBHOOK_ID}.")


TAGS = {
    "webhooks": "Be told of a job's end by signed HTTP calls, as the"
    " [Standard Webhooks](https://www.standardwebhooks.com) specification has them, repeated until"
    " one is taken.",
}

EXAMPLES = {
    "addWebhook": Example(
        requests={
            "The ends of jobs": {"url": "https://example.com/hooks/sfumato"},
            "Chosen events": {
                "url": "https://example.com/hooks/sfumato",
                "events": ["job.succeeded", "job.failed"],
            },
        },
        responses={201: {**_WEBHOOK, **_SECRET}},
        headers={201: {"Location": f"/v1/webhooks/{_WEBHOOK_ID}"}},
        errors=(
            TooManyWebhooks("There may be 10 webhooks; delete one first."),
            InvalidUrl("url must begin with https://.", param="url"),
        ),
    ),
    "listWebhooks": Example(responses={200: {"data": [_WEBHOOK]}}),
    "getWebhook": Example(
        parameters={"webhook_id": _WEBHOOK_ID},
        responses={200: _WEBHOOK},
        errors=(_NO_SUCH_WEBHOOK, no_id("webhook_id")),
    ),
    "removeWebhook": Example(
        parameters={"webhook_id": _WEBHOOK_ID},
        errors=(_NO_SUCH_WEBHOOK, no_id("webhook_id")),
    ),
    "rotateSecret": Example(
        parameters={"webhook_id": _WEBHOOK_ID},
        responses={200: {**_WEBHOOK, **_SECRET, "rotated_at": "2026-11-24T12:00:00.118390Z"}},
        errors=(_NO_SUCH_WEBHOOK, no_id("webhook_id")),
    ),
    "listDeliveries": Example(
        parameters={"webhook_id": _WEBHOOK_ID, "limit": 20, "state": "dead"},
        responses={
            200: {"data": [_DEAD], "has_more": True, "next": "AZqy9HXQfhmjyGsfLZBK5weg6rUqxQ4F"}
        },
        errors=(_NO_SUCH_WEBHOOK, no_id("webhook_id"), INVALID_CURSOR),
    ),
    "retryDelivery": Example(
        parameters={"delivery_id": _DELIVERY_ID},
        responses={202: _RETRIED},
        errors=(
            DeliveryNotFound(f"There is no delivery {_DELIVERY_ID}."),
            no_id("delivery_id"),
            DeliveryNotDead("The delivery is pending; only a dead one is tried again."),
            WebhookDisabled(
                "The receiver answered 410 Gone, which disabled the webhook; make a new one."
            ),
        ),
    ),
}
