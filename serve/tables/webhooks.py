"""Webhooks and their deliveries."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from serve.tables.base import Base

_PENDING = "delivered_at IS NULL AND failed_at IS NULL"


class Webhook(Base):
    """Where a tenant wants to be told of its jobs' events."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("webhooks_by_tenant", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    url: Mapped[str]
    secret: Mapped[bytes]
    """Signing needs the secret itself; a digest would not do."""
    previous_secret: Mapped[bytes | None]
    rotated_at: Mapped[datetime | None]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The EventTypes that are sent."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]
    """Set when the receiver answered 410 Gone."""


class Delivery(Base):
    """One event on its way to one webhook: pending, delivered or dead."""

    __tablename__ = "deliveries"
    __table_args__ = (
        ForeignKeyConstraint(
            ["job_id", "seq"], ["events.job_id", "events.seq"], ondelete="CASCADE"
        ),
        UniqueConstraint("job_id", "seq", "webhook_id"),
        CheckConstraint("delivered_at IS NULL OR failed_at IS NULL", name="one_end"),
        Index("deliveries_by_webhook", "webhook_id", "id"),
        Index("deliveries_due", "tenant_id", "next_at", postgresql_where=text(_PENDING)),
        Index(
            "deliveries_delivered",
            "delivered_at",
            postgresql_where=text("delivered_at IS NOT NULL"),
        ),
        Index("deliveries_dead", "failed_at", postgresql_where=text("failed_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    tenant_id: Mapped[UUID]
    job_id: Mapped[UUID]
    seq: Mapped[int]
    type: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """When it is tried next; while it is being sent, the end of the sender's lease."""
    delivered_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    """Set when it is dead: nothing tries it again but a retry that is asked for."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
