"""Queries on deliveries: the list that a tenant sees, and another try."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update

from serve.database import Session
from serve.tables import Delivery, Webhook
from serve.webhooks.repository.state import IN_STATE, PENDING, DeliveryState


async def load_deliveries(
    session: Session,
    webhook_id: UUID,
    state: DeliveryState | None,
    limit: int,
    after: UUID | None,
) -> Sequence[Delivery]:
    """The newest first."""
    statement = (
        select(Delivery)
        .where(Delivery.webhook_id == webhook_id)
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    if state is not None:
        statement = statement.where(IN_STATE[state])
    if after is not None:
        statement = statement.where(Delivery.id < after)
    return (await session.scalars(statement)).all()


async def lock_delivery(
    session: Session, tenant_id: UUID, delivery_id: UUID
) -> tuple[Delivery, Webhook] | None:
    """The delivery, locked, and its webhook."""
    statement = (
        select(Delivery, Webhook)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(Delivery.id == delivery_id, Webhook.tenant_id == tenant_id)
        .with_for_update(of=Delivery)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else (row[0], row[1])


async def revive(session: Session, delivery: Delivery) -> Delivery:
    """Try a dead one anew, as often as the first time."""
    statement = (
        update(Delivery)
        .where(Delivery.id == delivery.id)
        .values(failed_at=None, attempts=0, next_at=func.clock_timestamp())
        .returning(Delivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return (await session.scalars(statement)).one()


async def count_deliveries(session: Session) -> dict[DeliveryState, int]:
    """Those of all tenants that have not arrived."""
    pending = select(func.count()).where(PENDING).scalar_subquery()
    dead = select(func.count()).where(IN_STATE[DeliveryState.DEAD]).scalar_subquery()
    counts = (await session.execute(select(pending, dead))).one()
    return dict(zip((DeliveryState.PENDING, DeliveryState.DEAD), counts, strict=True))
