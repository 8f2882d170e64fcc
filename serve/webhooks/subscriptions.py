"""What a tenant may do with its webhooks and their deliveries. One transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from serve.database import Database, Session
from serve.events.event import EventType
from serve.settings import WebhookSettings
from serve.tables import Delivery, Webhook
from serve.webhooks import repository
from serve.webhooks.address import checked_url
from serve.webhooks.errors import (
    DeliveryNotDead,
    DeliveryNotFound,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from serve.webhooks.repository import DeliveryState
from serve.webhooks.signature import new_secret


class Webhooks:
    """The webhooks of every tenant; each call sees one tenant's only."""

    def __init__(self, database: Database, settings: WebhookSettings) -> None:
        self._database = database
        self._settings = settings

    async def create(self, tenant_id: UUID, url: str, events: Sequence[EventType]) -> Webhook:
        """Tell ``url`` of these events from now on; the row holds the secret.

        Raises:
            InvalidUrl: nothing is sent there.
            TooManyWebhooks: the tenant has as many as it may.
        """
        checked = checked_url(url, allow_private=self._settings.allow_private)
        async with self._database.transaction() as session:
            await repository.lock_tenant(session, tenant_id)
            most = self._settings.max_per_tenant
            if await repository.count_webhooks(session, tenant_id) >= most:
                raise TooManyWebhooks(f"There may be {most} webhooks; delete one first.")
            return await repository.insert_webhook(
                session, tenant_id, str(checked), new_secret(), events
            )

    async def list(self, tenant_id: UUID) -> Sequence[Webhook]:
        """The oldest first."""
        async with self._database.transaction() as session:
            return await repository.load_webhooks(session, tenant_id)

    async def get(self, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        """The webhook.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
        """
        async with self._database.transaction() as session:
            return await self._load(session, tenant_id, webhook_id)

    async def delete(self, tenant_id: UUID, webhook_id: UUID) -> None:
        """Forget the webhook and what is on its way to it.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
        """
        async with self._database.transaction() as session:
            if not await repository.delete_webhook(session, tenant_id, webhook_id):
                raise _no_webhook(webhook_id)

    async def rotate(self, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        """A new secret; for a day deliveries are signed with the old one as well.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
        """
        async with self._database.transaction() as session:
            webhook = await repository.rotate(session, tenant_id, webhook_id, new_secret())
        if webhook is None:
            raise _no_webhook(webhook_id)
        return webhook

    async def deliveries(
        self,
        tenant_id: UUID,
        webhook_id: UUID,
        *,
        state: DeliveryState | None,
        limit: int,
        after: UUID | None,
    ) -> Sequence[Delivery]:
        """Those older than ``after``, newest first; the dead ones are the dead-letter list.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
        """
        async with self._database.transaction() as session:
            await self._load(session, tenant_id, webhook_id)
            return await repository.load_deliveries(session, webhook_id, state, limit, after)

    async def retry(self, tenant_id: UUID, delivery_id: UUID) -> Delivery:
        """Try a dead delivery anew.

        Raises:
            DeliveryNotFound: the tenant has no such delivery.
            DeliveryNotDead: it has arrived, or is still being tried.
            WebhookDisabled: nothing is sent to its webhook any more.
        """
        async with self._database.transaction() as session:
            row = await repository.lock_delivery(session, tenant_id, delivery_id)
            if row is None:
                raise DeliveryNotFound(f"There is no delivery {delivery_id}.")
            delivery, webhook = row
            if (state := DeliveryState.of(delivery)) is not DeliveryState.DEAD:
                raise DeliveryNotDead(f"The delivery is {state}; only a dead one is tried again.")
            if webhook.disabled_at is not None:
                raise WebhookDisabled(
                    "The receiver answered 410 Gone, which disabled the webhook; make a new one."
                )
            return await repository.revive(session, delivery)

    async def counts(self) -> dict[DeliveryState, int]:
        """Pending and dead deliveries of all tenants."""
        async with self._database.transaction() as session:
            return await repository.count_deliveries(session)

    async def _load(self, session: Session, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        webhook = await repository.load_webhook(session, tenant_id, webhook_id)
        if webhook is None:
            raise _no_webhook(webhook_id)
        return webhook


def _no_webhook(webhook_id: UUID) -> WebhookNotFound:
    return WebhookNotFound(f"There is no webhook {webhook_id}.")
