"""Tenants, their keys, usage and webhooks; and secrets."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
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


class Tenant(Base):
    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("weight >= 0", name="weight_not_negative"),
        CheckConstraint(
            "requests_per_minute >= 0 AND gpu_seconds_per_minute >= 0"
            " AND gpu_seconds_burst >= 0 AND gpu_seconds_per_month >= 0",
            name="limits_not_negative",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    weight: Mapped[float] = mapped_column(server_default="1")
    """Its share of the devices while others wait as well, in proportion to theirs.

    0 is in the background: it draws only what no other tenant's pictures need."""
    deficit: Mapped[float] = mapped_column(server_default="0")
    """Device seconds that its turns have given it and its claims have not yet used."""
    turn_at: Mapped[datetime] = mapped_column(server_default=text("'epoch'"))
    """When its last turn ended; the tenant that waited longest is next (`serve.worker.queue`)."""
    requests_per_minute: Mapped[float | None]
    """This and the next: NULL is what the settings say, 0 no limit (`serve.access`)."""
    gpu_seconds_per_minute: Mapped[float | None]
    gpu_seconds_burst: Mapped[float | None]
    gpu_seconds_per_month: Mapped[float | None]
    withhold_prompts: Mapped[bool | None]
    """Whether its pictures' files leave out what was asked; NULL is what the settings say."""


class ApiKey(Base):
    """A key's SHA-256 and its readable prefix; the key itself is shown once and never stored."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "scopes <@ '{generate,read,admin,operator}'::text[] AND cardinality(scopes) > 0",
            name="known_scopes",
        ),
        Index("api_keys_by_tenant", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{generate,read}'"))
    """As given; what they include is `serve.access.scopes`'."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Usage(Base):
    """What a tenant's jobs of one day and model came to; a job counts on the day it was accepted.

    Kept apart from the jobs, which may be deleted.
    """

    __tablename__ = "usage"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[date] = mapped_column(primary_key=True)
    """In UTC."""
    model: Mapped[str] = mapped_column(primary_key=True)
    jobs: Mapped[int] = mapped_column(BigInteger)
    pictures: Mapped[int] = mapped_column(BigInteger)
    """Less those that were given back."""
    gpu_seconds: Mapped[float]
    """As predicted at submission; less those that were given back."""


class Secret(Base):
    """Random bytes that every ingress shares: whatever one of them signs, each can check."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Webhook(Base):
    """A URL that a tenant's events are sent to."""

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
        Index(
            "deliveries_due",
            "tenant_id",
            "next_at",
            postgresql_where=text("delivered_at IS NULL AND failed_at IS NULL"),
        ),
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
    """Set when it is dead: only a client's retry sends it again."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
