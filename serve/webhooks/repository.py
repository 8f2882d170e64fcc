"""Every query on webhooks and deliveries. None of them commits.

A webhook's row is locked before its deliveries. Whoever takes deliveries first skips those that
others hold, so that no two transactions can wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import (
    CTE,
    Insert,
    Integer,
    Interval,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from serve.database import Session
from serve.events import EventType
from serve.models import Delivery, EventRow, Tenant, Webhook
from serve.webhooks.attempt import Answer, Attempt

KEEP_PREVIOUS_SECRET = timedelta(days=1)
_PRUNED_AT_ONCE = 1000


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryState:
        if delivery.delivered_at is not None:
            return cls.DELIVERED
        return cls.PENDING if delivery.failed_at is None else cls.DEAD


_PENDING = and_(Delivery.delivered_at.is_(None), Delivery.failed_at.is_(None))
_IN_STATE = {
    DeliveryState.PENDING: _PENDING,
    DeliveryState.DELIVERED: Delivery.delivered_at.is_not(None),
    DeliveryState.DEAD: Delivery.failed_at.is_not(None),
}


def _outbox() -> Insert:
    event_type = bindparam("type", type_=Text)
    subscribed = (
        select(
            Webhook.id,
            Webhook.tenant_id,
            bindparam("job_id", type_=Uuid),
            bindparam("seq", type_=Integer),
            event_type,
        )
        .where(
            Webhook.tenant_id == bindparam("tenant_id", type_=Uuid),
            Webhook.disabled_at.is_(None),
            event_type == any_(Webhook.events),
        )
        .with_for_update(read=True)
    )
    return insert(Delivery).from_select(
        ["webhook_id", "tenant_id", "job_id", "seq", "type"], subscribed
    )


OUTBOX = _outbox()
"""Puts the event ``job_id``, ``seq``, ``type`` on its way to every webhook of ``tenant_id``.

Part of the statement that appends the event. The webhooks' rows are share-locked: one that is
deleted or disabled meanwhile would break the foreign key, or keep a delivery that nobody sends.
"""


async def claim_due(
    session: Session, limit: int, share: int, busy: Collection[UUID], lease: timedelta
) -> list[Attempt]:
    """Up to ``limit`` due deliveries, the longest due first, now under a lease.

    One tenant gets ``share`` of them at most, and the ``busy`` ones nothing: receivers that hang
    must not use up every place.
    """
    due = and_(_PENDING, Delivery.next_at <= func.now())
    waiting = _waiting_tenants()
    oldest = (
        select(Delivery.id, Delivery.next_at)
        .where(Delivery.tenant_id == waiting.c.tenant_id, due)
        .order_by(Delivery.next_at)
        .limit(share)
        .lateral()
    )
    chosen = (
        select(oldest.c.id)
        .select_from(waiting.join(oldest, true()))
        .where(waiting.c.tenant_id.not_in(busy))
        .order_by(oldest.c.next_at)
        .limit(limit)
    )
    locked = (
        select(Delivery.id).where(Delivery.id.in_(chosen), due).with_for_update(skip_locked=True)
    )
    claimed = (
        update(Delivery)
        .where(Delivery.id.in_(locked))
        .values(attempts=Delivery.attempts + 1, next_at=func.clock_timestamp() + lease)
        .returning(Delivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    taken = {row.id: row for row in await session.scalars(claimed)}
    if not taken:
        return []
    keeps_previous = Webhook.rotated_at > func.now() - KEEP_PREVIOUS_SECRET
    rows = await session.execute(
        select(
            Delivery.id,
            Webhook.url,
            Webhook.secret,
            case((keeps_previous, Webhook.previous_secret)),
            EventRow,
            func.clock_timestamp(),
        )
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .join(EventRow, and_(EventRow.job_id == Delivery.job_id, EventRow.seq == Delivery.seq))
        .where(Delivery.id.in_(taken))
        .order_by(Delivery.id)
    )
    return [
        Attempt(
            delivery_id=delivery_id,
            webhook_id=taken[delivery_id].webhook_id,
            tenant_id=taken[delivery_id].tenant_id,
            number=taken[delivery_id].attempts,
            lease_until=taken[delivery_id].next_at,
            claimed_at=now,
            url=url,
            keys=(secret,) if previous is None else (secret, previous),
            body=_body(event),
        )
        for delivery_id, url, secret, previous, event, now in rows
    ]


def _waiting_tenants() -> CTE:
    """Tenants with pending deliveries, by one step into the index each, however many they have."""
    first = select(Delivery.tenant_id).where(_PENDING).order_by(Delivery.tenant_id).limit(1)
    waiting = select(first.scalar_subquery().label("tenant_id")).cte("waiting", recursive=True)
    following = first.where(Delivery.tenant_id > waiting.c.tenant_id).correlate(waiting)
    return waiting.union_all(
        select(following.scalar_subquery()).where(waiting.c.tenant_id.is_not(None))
    )


async def mark_delivered(session: Session, attempt: Attempt, answer: Answer) -> None:
    """Not fenced by the lease: what a receiver has taken, it has, whoever else is still trying."""
    await session.execute(
        update(Delivery)
        .where(Delivery.id == attempt.delivery_id, Delivery.delivered_at.is_(None))
        .values(
            delivered_at=func.clock_timestamp(),
            failed_at=None,
            last_status=answer.status,
            last_error=None,
        )
        .execution_options(synchronize_session=False)
    )


async def mark_failed(
    session: Session, attempt: Attempt, answer: Answer, delay: timedelta | None
) -> None:
    """Try again after ``delay``, or never; nothing where the lease was lost."""
    dead = delay is None
    await session.execute(
        update(Delivery)
        .where(
            Delivery.id == attempt.delivery_id,
            _PENDING,
            Delivery.next_at == attempt.lease_until,
        )
        .values(
            failed_at=func.clock_timestamp() if dead else None,
            next_at=func.clock_timestamp() + literal(delay or timedelta(), Interval),
            last_status=answer.status,
            last_error=answer.error,
        )
        .execution_options(synchronize_session=False)
    )


async def disable(session: Session, attempt: Attempt, answer: Answer) -> None:
    """Send nothing more to the attempt's webhook; whatever was on its way there is dead."""
    await session.execute(
        update(Webhook)
        .where(Webhook.id == attempt.webhook_id)
        .values(disabled_at=func.coalesce(Webhook.disabled_at, func.clock_timestamp()))
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == attempt.webhook_id, _PENDING)
        .values(
            failed_at=func.clock_timestamp(),
            last_error=answer.error,
            last_status=case(
                (Delivery.id == attempt.delivery_id, answer.status), else_=Delivery.last_status
            ),
        )
        .execution_options(synchronize_session=False)
    )


async def prune(session: Session, keep: timedelta, keep_dead: timedelta) -> int:
    """Forget some that ended long ago; how many."""
    old = or_(
        Delivery.delivered_at < func.now() - keep, Delivery.failed_at < func.now() - keep_dead
    )
    some = select(Delivery.id).where(old).limit(_PRUNED_AT_ONCE).with_for_update(skip_locked=True)
    pruned = delete(Delivery).where(Delivery.id.in_(some)).returning(Delivery.id)
    return len((await session.scalars(pruned)).all())


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
        statement = statement.where(_IN_STATE[state])
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
    pending = select(func.count()).where(_PENDING).scalar_subquery()
    dead = select(func.count()).where(_IN_STATE[DeliveryState.DEAD]).scalar_subquery()
    counts = (await session.execute(select(pending, dead))).one()
    return dict(zip((DeliveryState.PENDING, DeliveryState.DEAD), counts, strict=True))


def _body(event: EventRow) -> bytes:
    """The same bytes at every try: an event never changes."""
    data: dict[str, Any] = {**event.data, "job_id": str(event.job_id), "seq": event.seq}
    return orjson.dumps({"type": event.type, "timestamp": event.created_at, "data": data})
