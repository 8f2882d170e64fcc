"""Webhooks, and their deliveries."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from serve.access.auth import Admin, GuardedRoute, Reader
from serve.http.address import path_to
from serve.http.documented import problems, success
from serve.http.provided import Provided
from serve.webhooks.errors import (
    DeliveryNotDead,
    DeliveryNotFound,
    InvalidUrl,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from serve.webhooks.schemas import (
    DeliveryList,
    DeliveryOut,
    DeliveryPage,
    WebhookBody,
    WebhookList,
    WebhookOut,
    WebhookWithSecret,
)
from serve.webhooks.subscriptions import Webhooks

router = APIRouter(tags=["webhooks"], route_class=GuardedRoute)

_ROTATED = {"rotated_at": "2026-11-24T12:00:00.118390Z"}
_REVIVED = {
    "state": "pending",
    "attempts": 0,
    "next_at": "2026-11-24T12:00:00.118390Z",
    "failed_at": None,
}


@router.post(
    "/v1/webhooks",
    status_code=201,
    summary="Add a webhook",
    responses={**success(201, ("Location",)), **problems(TooManyWebhooks, InvalidUrl)},
)
async def add_webhook(
    body: WebhookBody,
    request: Request,
    response: Response,
    caller: Admin,
    webhooks: Provided[Webhooks],
) -> WebhookWithSecret:
    """Events from now on are POSTed to the URL, signed as the Standard Webhooks specification has
    it. Each arrives at least once: `webhook-id` is the same for every repetition, and `data.seq`
    tells the order. Anything but a 2xx within the time-out is tried again, with growing delays."""
    webhook = await webhooks.create(caller.tenant_id, body.url, body.chosen)
    response.headers["Location"] = path_to(f"/v1/webhooks/{webhook.id}", request)
    return WebhookWithSecret.of(webhook, caller)


@router.get("/v1/webhooks", summary="List webhooks", responses=problems())
async def list_webhooks(caller: Reader, webhooks: Provided[Webhooks]) -> WebhookList:
    """The oldest first."""
    found = await webhooks.list(caller.tenant_id)
    return WebhookList(data=[WebhookOut.of(webhook, caller) for webhook in found])


@router.get(
    "/v1/webhooks/{webhook_id}", summary="Look at a webhook", responses=problems(WebhookNotFound)
)
async def get_webhook(webhook_id: UUID, caller: Reader, webhooks: Provided[Webhooks]) -> WebhookOut:
    return WebhookOut.of(await webhooks.get(caller.tenant_id, webhook_id), caller)


@router.delete(
    "/v1/webhooks/{webhook_id}",
    status_code=204,
    summary="Remove a webhook",
    responses=problems(WebhookNotFound),
)
async def remove_webhook(webhook_id: UUID, caller: Admin, webhooks: Provided[Webhooks]) -> None:
    """Nothing more is sent to it; its deliveries are forgotten."""
    await webhooks.delete(caller.tenant_id, webhook_id)


@router.post(
    "/v1/webhooks/{webhook_id}/rotate",
    summary="Change a webhook's secret",
    responses={**success(200, example=_ROTATED), **problems(WebhookNotFound)},
)
async def rotate_secret(
    webhook_id: UUID, caller: Admin, webhooks: Provided[Webhooks]
) -> WebhookWithSecret:
    """For a day deliveries carry a signature by the previous secret as well."""
    return WebhookWithSecret.of(await webhooks.rotate(caller.tenant_id, webhook_id), caller)


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries",
    summary="List a webhook's deliveries",
    responses=problems(WebhookNotFound),
)
async def list_deliveries(
    webhook_id: UUID,
    page: Annotated[DeliveryPage, Query()],
    caller: Reader,
    webhooks: Provided[Webhooks],
) -> DeliveryList:
    """The newest first; `state=dead` lists what was given up."""
    of = ("deliveries", webhook_id)
    deliveries = await webhooks.deliveries(
        caller.tenant_id,
        webhook_id,
        state=page.state,
        limit=page.limit_and_one,
        after=page.last_seen(*of),
    )
    return DeliveryList(**page.answer(deliveries, DeliveryOut.of, *of))


@router.post(
    "/v1/webhooks/deliveries/{delivery_id}/retry",
    status_code=202,
    summary="Try a dead delivery again",
    responses={
        **success(202, example=_REVIVED),
        **problems(DeliveryNotFound, DeliveryNotDead, WebhookDisabled),
    },
)
async def retry_delivery(
    delivery_id: UUID, caller: Admin, webhooks: Provided[Webhooks]
) -> DeliveryOut:
    """As often as a new one; its `webhook-id` stays."""
    return DeliveryOut.of(await webhooks.retry(caller.tenant_id, delivery_id))
