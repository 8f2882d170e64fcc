"""The tables: what Postgres holds is the truth."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in LIVE


LIVE = (JobState.QUEUED, JobState.RUNNING)


def _state(name: str) -> Enum:
    return Enum(
        JobState,
        name=name,
        native_enum=False,
        length=16,
        create_constraint=True,
        values_callable=lambda states: [state.value for state in states],
    )


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own spelling
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
    }


class Tenant(Base):
    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("weight > 0", name="some_weight"),
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
    """Its share of the devices while others wait as well, in proportion to theirs."""
    deficit: Mapped[float] = mapped_column(server_default="0")
    """Device seconds that its turns have given it and its claims have not yet used."""
    turn_at: Mapped[datetime] = mapped_column(server_default=text("'epoch'"))
    """When its last turn ended; who waited longest comes next (`serve.jobs.fairness`)."""
    requests_per_minute: Mapped[float | None]
    """This and the next: NULL is what the settings say, 0 no limit (`serve.security`)."""
    gpu_seconds_per_minute: Mapped[float | None]
    gpu_seconds_burst: Mapped[float | None]
    gpu_seconds_per_month: Mapped[float | None]


class ApiKey(Base):
    """A key's SHA-256 and its readable prefix; the key itself is told once and never kept."""

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
    """As given; what they include is `serve.security.scopes`'."""
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


class Job(Base):
    """What a client asked for: ``n`` pictures of one prompt, in exactly one state."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("jobs_by_tenant", "tenant_id", "id"),
        Index("jobs_live", "tenant_id", "id", postgresql_where=text("finished_at IS NULL")),
        Index("jobs_by_end", "tenant_id", "finished_at"),
        Index("jobs_by_state", "tenant_id", "state", "id"),
        Index("jobs_by_model", "tenant_id", "model", "id"),
        Index("jobs_by_words", "prompt_words", postgresql_using="gin"),
        Index(
            "jobs_with_deadline",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND finished_at IS NULL"),
        ),
        *(
            part
            for column in ("image_sha256", "mask_sha256")
            for part in (
                ForeignKeyConstraint(
                    ["tenant_id", column], ["sources.tenant_id", "sources.sha256"]
                ),
                Index(
                    f"jobs_by_{column}",
                    "tenant_id",
                    column,
                    postgresql_where=text(f"{column} IS NOT NULL"),
                ),
            )
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    state: Mapped[JobState] = mapped_column(_state("job_state"), server_default="queued")
    model: Mapped[str]
    params: Mapped[dict[str, Any]]
    """The request as validated, every default filled in (JobRequest's fields)."""
    n: Mapped[int]
    priority: Mapped[int] = mapped_column(server_default="0")
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[bytes | None]
    image_sha256: Mapped[str | None]
    """The source that it is drawn from, and below the mask: what keeps their files."""
    mask_sha256: Mapped[str | None]
    error: Mapped[str | None]
    error_code: Mapped[str | None]
    """Set with ``error`` where a client is told more than that it failed."""
    last_seq: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    prompt_words: Mapped[str] = mapped_column(
        TSVECTOR, Computed("to_tsvector('simple', params->>'prompt')"), deferred=True
    )
    """Searched, and never read."""

    images: Mapped[list[Image]] = relationship(
        back_populates="job", order_by="Image.index", lazy="raise", passive_deletes=True
    )


SHOWN = "state = 'succeeded' AND deleted_at IS NULL"
"""What the gallery lists; a constant, because that alone is served by a partial index."""


class Source(Base):
    """A picture that a client sent in, or its mask; the file's key follows from it."""

    __tablename__ = "sources"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    """Of the file, in hex."""
    used_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """When it was last sent; without a job that names it, it goes some time after."""


class Image(Base):
    """One requested picture: the unit of claiming."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("job_id", "index"),
        CheckConstraint("(state = 'running') = (worker_id IS NOT NULL)", name="claimed_by_one"),
        Index("images_by_tenant", "tenant_id", "id"),
        Index(
            "images_to_claim",
            "tenant_id",
            "model",
            text("priority DESC"),
            "start_by",
            "id",
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "images_to_claim_by_shape",
            "tenant_id",
            "model",
            "width",
            "height",
            text("priority DESC"),
            "start_by",
            "id",
            postgresql_where=text("state = 'queued'"),
        ),
        Index("images_by_worker", "worker_id", postgresql_where=text("state = 'running'")),
        Index("images_shown", "tenant_id", "id", postgresql_where=text(SHOWN)),
        Index("images_by_model", "tenant_id", "model", "id", postgresql_where=text(SHOWN)),
        Index("images_by_seed", "tenant_id", "seed", "id", postgresql_where=text(SHOWN)),
        Index(
            "images_favourite", "tenant_id", "id", postgresql_where=text(f"{SHOWN} AND favourite")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    tenant_id: Mapped[UUID]
    index: Mapped[int]
    state: Mapped[JobState] = mapped_column(_state("image_state"), server_default="queued")
    model: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="0")
    width: Mapped[int]
    height: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    attempt: Mapped[int] = mapped_column(server_default="0")
    """Raised by every claim; only the current attempt may commit."""
    crashes: Mapped[int] = mapped_column(server_default="0")
    """Leases lost while it was held; above 0 it is drawn alone."""
    seconds: Mapped[float] = mapped_column(server_default="0")
    """Of a device with a full step batch, as predicted when it was submitted."""
    start_by: Mapped[datetime] = mapped_column(server_default=func.now())
    """When it should begin to be in time: due, less what it takes alone."""
    queued_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """Set anew by whatever queues it again."""
    worker_id: Mapped[UUID | None]
    """Set by the claim, cleared by whatever ends it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    favourite: Mapped[bool] = mapped_column(server_default=text("false"))
    deleted_at: Mapped[datetime | None]
    """Set when its client deleted it; the row stays, its variants and their files do not."""

    job: Mapped[Job] = relationship(back_populates="images", lazy="raise")
    variants: Mapped[list[Variant]] = relationship(
        back_populates="image", order_by="Variant.name", lazy="raise", passive_deletes=True
    )


class Variant(Base):
    """One file of a picture in storage."""

    __tablename__ = "variants"

    image_id: Mapped[UUID] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    media_type: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int]
    """In bytes."""
    sha256: Mapped[str]
    """Of the file, in hex."""
    storage_key: Mapped[str]

    image: Mapped[Image] = relationship(back_populates="variants", lazy="raise")


class EventRow(Base):
    """A job's durable events, numbered 1..n without gaps; the terminal one is the last."""

    __tablename__ = "events"

    job_id: Mapped[UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Worker(Base):
    """A diffusion replica that made its first picture; alive while its heartbeat is young."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.uuidv7())
    model: Mapped[str]
    """Its default one; it may draw with others as well."""
    device: Mapped[str]
    slots: Mapped[int]
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    stats: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """The engine's counters at the last heartbeat (EngineStats)."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CostProfile(Base):
    """What a model's pictures cost, as its replicas measured; it outlives them."""

    __tablename__ = "cost_profiles"

    model: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[dict[str, Any]]
    """`pipelines.diffusion.batching.cost.Profile`."""
    max_batch: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


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
