"""What a tenant may do with its webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from serve.clock import clock
from serve.database import Database
from serve.events.event import EventType
from serve.settings import WebhookSettings
from serve.tables import Delivery, Webhook
from serve.webhooks import repository
from serve.webhooks.errors import DeliveryNotDead, TooManyWebhooks, WebhookDisabled
from serve.webhooks.outbound import checked_url
from serve.webhooks.repository import DeliveryState
from serve.webhooks.signature import new_secret


class Webhooks:
    """The webhooks of every tenant. Each method is one transaction.

    What names a webhook raises WebhookNotFound if the tenant has none of that id.
    """

    def __init__(self, database: Database, settings: WebhookSettings) -> None:
        self._database = database
        self._settings = settings

    async def create(self, tenant_id: UUID, url: str, events: Sequence[EventType]) -> Webhook:
        """Send these events to ``url`` from now on. The row holds the secret.

        Raises:
            InvalidUrl: nothing is sent there.
            TooManyWebhooks: the tenant has as many as it may.
        """
        checked = checked_url(url, allow_private=self._settings.allow_private)
        most = self._settings.max_per_tenant
        webhook = Webhook(
            tenant_id=tenant_id,
            url=str(checked),
            secret=new_secret(),
            events=[event.value for event in events],
        )
        async with self._database.transaction() as session:
            if await repository.count_webhooks(session, tenant_id) >= most:
                raise TooManyWebhooks(f"There may be {most} webhooks; delete one first.")
            session.add(webhook)
            await session.flush()
            await session.refresh(webhook)
        return webhook

    async def list(self, tenant_id: UUID) -> Sequence[Webhook]:
        """The oldest first."""
        async with self._database.transaction() as session:
            return await repository.load_webhooks(session, tenant_id)

    async def get(self, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        async with self._database.transaction() as session:
            return await repository.load_webhook(session, tenant_id, webhook_id)

    async def delete(self, tenant_id: UUID, webhook_id: UUID) -> None:
        """Delete the webhook and its deliveries."""
        async with self._database.transaction() as session:
            webhook = await repository.load_webhook(session, tenant_id, webhook_id, lock=True)
            await session.delete(webhook)

    async def rotate(self, tenant_id: UUID, webhook_id: UUID) -> Webhook:
        """Make a new secret. For a day deliveries are signed with the old one as well."""
        async with self._database.transaction() as session:
            webhook = await repository.load_webhook(session, tenant_id, webhook_id, lock=True)
            webhook.rotated_at = await clock(session)
            webhook.previous_secret, webhook.secret = webhook.secret, new_secret()
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
        """Those older than ``after``, newest first; the dead ones are the dead-letter list."""
        async with self._database.transaction() as session:
            await repository.load_webhook(session, tenant_id, webhook_id)
            return await repository.load_deliveries(session, webhook_id, state, limit, after)

    async def retry(self, tenant_id: UUID, delivery_id: UUID) -> Delivery:
        """Send a dead delivery again, with all its tries before it.

        Raises:
            DeliveryNotFound: the tenant has no such delivery.
            DeliveryNotDead: it has arrived, or is still being tried.
            WebhookDisabled: nothing is sent to its webhook any more.
        """
        async with self._database.transaction() as session:
            delivery, webhook = await repository.lock_delivery(session, tenant_id, delivery_id)
            if (state := DeliveryState.of(delivery)) is not DeliveryState.DEAD:
                raise DeliveryNotDead(f"The delivery is {state}; only a dead one is tried again.")
            if webhook.disabled_at is not None:
                raise WebhookDisabled(
                    "The receiver answered 410 Gone, which disabled the webhook; make a new one."
                )
            delivery.next_at = await clock(session)
            delivery.failed_at, delivery.attempts = None, 0
            return delivery

    async def counts(self) -> dict[DeliveryState, int]:
        """The pending and the dead deliveries of all tenants."""
        async with self._database.transaction() as session:
            return await repository.count_deliveries(session)
