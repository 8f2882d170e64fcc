"""Every query on webhooks and deliveries. None of them commits.

A webhook's row is locked before its deliveries. Whoever takes deliveries first skips those that
others hold. So no two transactions can wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pydantic_core import to_json
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
from serve.events.event import event_data
from serve.observability.tracing import TraceContext, ids_of
from serve.tables import Delivery, EventRow, Job, Tenant, Webhook
from serve.webhooks.errors import DeliveryNotFound, WebhookNotFound

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


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery that a courier has claimed."""

    delivery_id: UUID
    webhook_id: UUID
    tenant_id: UUID
    job_id: UUID
    number: int
    """1 for the first try."""
    lease_until: datetime
    """No other courier sends it before then. It also tells this claim from a later one."""
    claimed_at: datetime
    url: str = field(repr=False)  # it may hold a token
    keys: tuple[bytes, ...] = field(repr=False)
    """The secret; for a day after a rotation, the previous one as well."""
    body: bytes
    trace: TraceContext | None = None
    """That of the event's job, if it is recorded."""

    @property
    def ids(self) -> dict[str, str | int]:
        """What log lines of the attempt have."""
        return {
            "delivery_id": str(self.delivery_id),
            "webhook_id": str(self.webhook_id),
            "job_id": str(self.job_id),
            "tenant_id": str(self.tenant_id),
            "attempt": self.number,
            **ids_of(self.trace),
        }

    @property
    def message_id(self) -> str:
        """The same for every try, so that a receiver recognises a repetition."""
        return f"msg_{self.delivery_id}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer, or the error that left none."""

    status: int | None
    error: str | None = None
    retry_after_s: float = 0.0
    """How long the receiver wants no further request, from its answer on."""

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more deliveries, ever."""
        return self.status == 410


# The webhooks of a tenant


async def count_webhooks(session: Session, tenant_id: UUID) -> int:
    """How many the tenant has. Whoever else counts them waits until this transaction has ended."""
    # Jobs only refer to the tenant and go on.
    await session.execute(
        select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True)
    )
    count = select(func.count()).where(Webhook.tenant_id == tenant_id)
    return (await session.scalars(count)).one()


async def load_webhooks(session: Session, tenant_id: UUID) -> Sequence[Webhook]:
    """The oldest first."""
    statement = select(Webhook).where(Webhook.tenant_id == tenant_id).order_by(Webhook.id)
    return (await session.scalars(statement)).all()


async def load_webhook(
    session: Session, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False
) -> Webhook:
    """Raises WebhookNotFound: the tenant has no such webhook."""
    statement = select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    webhook = await session.scalar(statement.with_for_update() if lock else statement)
    if webhook is None:
        raise WebhookNotFound(f"There is no webhook {webhook_id}.")
    return webhook


# The deliveries of a tenant


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
) -> tuple[Delivery, Webhook]:
    """The delivery, locked, and its webhook.

    Raises:
        DeliveryNotFound: the tenant has no such delivery.
    """
    statement = (
        select(Delivery, Webhook)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(Delivery.id == delivery_id, Webhook.tenant_id == tenant_id)
        .with_for_update(of=Delivery)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise DeliveryNotFound(f"There is no delivery {delivery_id}.")
    return row[0], row[1]


async def count_deliveries(session: Session) -> dict[DeliveryState, int]:
    """The pending and the dead deliveries of all tenants."""
    pending = select(func.count()).where(_PENDING).scalar_subquery()
    dead = select(func.count()).where(_IN_STATE[DeliveryState.DEAD]).scalar_subquery()
    counts = (await session.execute(select(pending, dead))).one()
    return dict(zip((DeliveryState.PENDING, DeliveryState.DEAD), counts, strict=True))


# The outbox


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
"""Inserts a delivery of the event ``job_id``, ``seq``, ``type`` to each webhook of ``tenant_id``
that subscribes to it.

It is a part of the statement that appends the event. It share-locks the webhooks' rows: if one
were deleted or disabled meanwhile, the delivery would break the foreign key, or never be sent.
"""


# The courier's


async def claim_due(
    session: Session, limit: int, share: int, busy: Collection[UUID], lease: timedelta
) -> list[Attempt]:
    """Up to ``limit`` due deliveries, the longest due first, now under a lease.

    One tenant gets at most ``share`` of them, and the ``busy`` tenants get none: receivers that
    hang must not use up every place.
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
        select(Delivery.id)
        .where(Delivery.id.in_(chosen), due)
        .with_for_update(skip_locked=True)
        .cte("locked")
    )
    keeps_previous = Webhook.rotated_at > func.now() - KEEP_PREVIOUS_SECRET
    claimed = (
        update(Delivery)
        .where(
            Delivery.id == locked.c.id,
            Webhook.id == Delivery.webhook_id,
            EventRow.job_id == Delivery.job_id,
            EventRow.seq == Delivery.seq,
            Job.id == Delivery.job_id,
        )
        .values(attempts=Delivery.attempts + 1, next_at=func.clock_timestamp() + lease)
        .returning(
            Delivery,
            Webhook.url,
            Webhook.secret,
            case((keeps_previous, Webhook.previous_secret)),
            EventRow,
            Job.traceparent,
            Job.tracestate,
            func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
    rows = await session.execute(claimed)
    attempts = [
        Attempt(
            delivery_id=delivery.id,
            webhook_id=delivery.webhook_id,
            tenant_id=delivery.tenant_id,
            job_id=delivery.job_id,
            number=delivery.attempts,
            lease_until=delivery.next_at,
            claimed_at=now,
            url=url,
            keys=(secret,) if previous is None else (secret, previous),
            body=_body(event),
            trace=TraceContext.of(traceparent, tracestate),
        )
        for delivery, url, secret, previous, event, traceparent, tracestate, now in rows
    ]
    return sorted(attempts, key=lambda attempt: attempt.delivery_id)


def _waiting_tenants() -> CTE:
    """The tenants with pending deliveries, by one index lookup each, however many they have."""
    first = select(Delivery.tenant_id).where(_PENDING).order_by(Delivery.tenant_id).limit(1)
    waiting = select(first.scalar_subquery().label("tenant_id")).cte("waiting", recursive=True)
    following = first.where(Delivery.tenant_id > waiting.c.tenant_id).correlate(waiting)
    return waiting.union_all(
        select(following.scalar_subquery()).where(waiting.c.tenant_id.is_not(None))
    )


def _body(event: EventRow) -> bytes:
    """The same bytes at every try: an event never changes."""
    data = {**event_data(event.data), "job_id": str(event.job_id), "seq": event.seq}
    return to_json({"type": event.type, "timestamp": event.created_at.isoformat(), "data": data})


async def mark_delivered(session: Session, attempt: Attempt, answer: Answer) -> None:
    """Even if the lease was lost: the receiver has taken the delivery."""
    await session.execute(
        update(Delivery)
        .where(Delivery.id == attempt.delivery_id, Delivery.delivered_at.is_(None))
        .values(
            delivered_at=func.clock_timestamp(),
            failed_at=None,
            last_status=answer.status,
            last_error=None,
        )
    )


async def mark_failed(
    session: Session, attempt: Attempt, answer: Answer, delay: timedelta | None
) -> None:
    """Make it due after ``delay``, or dead if that is None. If the lease was lost, do nothing."""
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
    )


async def disable(session: Session, attempt: Attempt, answer: Answer) -> None:
    """Disable the attempt's webhook; all its pending deliveries are dead."""
    await session.execute(
        update(Webhook)
        .where(Webhook.id == attempt.webhook_id)
        .values(disabled_at=func.coalesce(Webhook.disabled_at, func.clock_timestamp()))
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
    )


async def prune(session: Session, keep: timedelta, keep_dead: timedelta) -> int:
    """Delete some deliveries that ended long ago, and return how many."""
    old = or_(
        Delivery.delivered_at < func.now() - keep, Delivery.failed_at < func.now() - keep_dead
    )
    some = select(Delivery.id).where(old).limit(_PRUNED_AT_ONCE).with_for_update(skip_locked=True)
    pruned = delete(Delivery).where(Delivery.id.in_(some)).returning(Delivery.id)
    return len((await session.scalars(pruned)).all())
