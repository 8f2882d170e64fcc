"""The courier's queries: what is due, and what became of it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import CTE, Interval, and_, case, delete, func, literal, or_, select, true, update

from serve.database import Session
from serve.events.event import as_json, event_data
from serve.tables import Delivery, EventRow, Webhook
from serve.webhooks.attempt import Answer, Attempt
from serve.webhooks.repository.state import PENDING

KEEP_PREVIOUS_SECRET = timedelta(days=1)
_PRUNED_AT_ONCE = 1000


async def claim_due(
    session: Session, limit: int, share: int, busy: Collection[UUID], lease: timedelta
) -> list[Attempt]:
    """Up to ``limit`` due deliveries, the longest due first, now under a lease.

    One tenant gets ``share`` of them at most, and the ``busy`` ones nothing: receivers that hang
    must not use up every place.
    """
    due = and_(PENDING, Delivery.next_at <= func.now())
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
    first = select(Delivery.tenant_id).where(PENDING).order_by(Delivery.tenant_id).limit(1)
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
            PENDING,
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
        .where(Delivery.webhook_id == attempt.webhook_id, PENDING)
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


def _body(event: EventRow) -> bytes:
    """The same bytes at every try: an event never changes."""
    data = {**event_data(event.data), "job_id": str(event.job_id), "seq": event.seq}
    return as_json({"type": event.type, "timestamp": event.created_at, "data": data})
