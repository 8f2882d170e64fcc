"""Queries on webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, update

from serve.database import Session
from serve.events.event import EventType
from serve.tables import Tenant, Webhook


async def lock_tenant(session: Session, tenant_id: UUID) -> None:
    """One at a time may add a webhook; jobs, which only refer to the tenant, go on."""
    await session.execute(
        select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True)
    )


async def count_webhooks(session: Session, tenant_id: UUID) -> int:
    statement = select(func.count()).where(Webhook.tenant_id == tenant_id)
    return (await session.scalars(statement)).one()


async def insert_webhook(
    session: Session, tenant_id: UUID, url: str, secret: bytes, events: Sequence[EventType]
) -> Webhook:
    webhook = Webhook(
        tenant_id=tenant_id, url=url, secret=secret, events=[event.value for event in events]
    )
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    return webhook


async def load_webhooks(session: Session, tenant_id: UUID) -> Sequence[Webhook]:
    """The oldest first."""
    statement = select(Webhook).where(Webhook.tenant_id == tenant_id).order_by(Webhook.id)
    return (await session.scalars(statement)).all()


async def load_webhook(session: Session, tenant_id: UUID, webhook_id: UUID) -> Webhook | None:
    statement = select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    return await session.scalar(statement)


async def delete_webhook(session: Session, tenant_id: UUID, webhook_id: UUID) -> bool:
    statement = (
        delete(Webhook)
        .where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
        .returning(Webhook.id)
    )
    return await session.scalar(statement) is not None


async def rotate(
    session: Session, tenant_id: UUID, webhook_id: UUID, secret: bytes
) -> Webhook | None:
    statement = (
        update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
        .values(secret=secret, previous_secret=Webhook.secret, rotated_at=func.clock_timestamp())
        .returning(Webhook)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return await session.scalar(statement)
