"""Jobs, their pictures and events, files and sources; and the workers that draw them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column, relationship

from serve.settings import DEFAULT_POOL
from serve.tables.base import Base, JobState, StateType, known_states

SHOWN = "state = 'succeeded' AND deleted_at IS NULL"
"""What the gallery lists; a constant, because only then Postgres uses a partial index."""

MAX_SEED = 2**63 - 1


class Source(Base):
    """A picture that a client sent in, or its mask; the file's key follows from it."""

    __tablename__ = "sources"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    """Of the file, in hex."""
    used_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """When it was last sent; some time later it is deleted, unless a job names it."""


class Job(Base):
    """A client's request for ``n`` pictures of one prompt, in exactly one state."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        known_states("job_state"),
        Index("jobs_by_tenant", "tenant_id", "id"),
        Index("jobs_live", "tenant_id", "id", postgresql_where=text("finished_at IS NULL")),
        Index("jobs_by_end", "tenant_id", "finished_at"),
        Index("jobs_by_state", "tenant_id", "state", "id"),
        Index("jobs_by_model", "tenant_id", "model", "id"),
        Index(
            "jobs_by_recipe",
            "tenant_id",
            "recipe",
            "id",
            postgresql_where=text("state = 'succeeded'"),
        ),
        Index("jobs_failed", "finished_at", postgresql_where=text("state = 'failed'")),
        Index("jobs_by_words", "prompt_words", postgresql_using="gin"),
        Index(
            "jobs_by_artist",
            "tenant_id",
            text("(params ->> 'prompt')"),
            "created_at",
            postgresql_where=text("why IS NOT NULL"),
        ),
        Index(
            "jobs_with_deadline",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND finished_at IS NULL"),
        ),
        *(
            part
            for column in ("image_sha256", "mask_sha256", "control_image_sha256")
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
    state: Mapped[JobState] = mapped_column(StateType, server_default="queued")
    model: Mapped[str]
    params: Mapped[dict[str, Any]]
    """The request as validated, every default filled in (JobRequest's fields).

    A newer version may have written fields that this one does not know.
    """
    n: Mapped[int]
    priority: Mapped[int] = mapped_column(server_default="0")
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[bytes | None]
    recipe: Mapped[bytes | None]
    """`JobRequest.recipe`: jobs of the same one have the same pictures."""
    image_sha256: Mapped[str | None]
    """The source that it is drawn from; the next two are further sources. They keep the files."""
    mask_sha256: Mapped[str | None]
    control_image_sha256: Mapped[str | None]
    why: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`serve.jobs.why.Why` of an autonomous job; NULL if its client wrote the prompt."""
    error: Mapped[str | None]
    error_code: Mapped[str | None]
    """Set with ``error`` if clients see more than that it failed."""
    warnings: Mapped[list[dict[str, str]] | None] = mapped_column(JSONB(none_as_null=True))
    """Set by its first picture that is drawn (`serve.worker.claims`)."""
    text_tokens: Mapped[int | None]
    """Of its prompts, as many as a picture's text encoder read; set likewise."""
    last_seq: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    traceparent: Mapped[str | None]
    """The span that submitted it, if one was recorded, as the two headers of W3C Trace Context."""
    tracestate: Mapped[str | None]
    prompt_words: Mapped[str] = mapped_column(
        TSVECTOR, server_default=FetchedValue(), deferred=True
    )
    """Set by a trigger: the words of the prompt, folded. It is searched and never read."""

    images: Mapped[list[Image]] = relationship(
        back_populates="job", order_by="Image.index", lazy="raise", passive_deletes=True
    )

    @property
    def prompt(self) -> str:
        """As requested; empty if a newer version stores it elsewhere."""
        prompt = self.params.get("prompt")
        return prompt if isinstance(prompt, str) else ""


class Image(Base):
    """One requested picture: the unit of claiming."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("job_id", "index"),
        known_states("image_state"),
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
            postgresql_include=["seconds"],
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
    state: Mapped[JobState] = mapped_column(StateType, server_default="queued")
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
    """Set again whenever it is queued again."""
    worker_id: Mapped[UUID | None]
    """Set by the claim, cleared when the claim ends."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    favourite: Mapped[bool] = mapped_column(server_default=text("false"))
    blurhash: Mapped[str | None]
    """What a client shows until the picture's file has arrived."""
    critique: Mapped[dict[str, float] | None] = mapped_column(JSONB(none_as_null=True))
    """`pipelines.imaging.critique.Critique` of a picture of which the better one is kept."""
    deleted_at: Mapped[datetime | None]
    """Set when its client or the artist deleted it; the row stays, variants and files do not."""

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
    pool: Mapped[str] = mapped_column(server_default=DEFAULT_POOL)
    """The models that it draws with are those of its pool."""
    model: Mapped[str]
    """The first of them."""
    models: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    """Those that it has taken up, each ready to be loaded."""
    device: Mapped[str]
    slots: Mapped[int]
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    stats: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """The engine's counters at the last heartbeat (EngineStats); see ``counters``."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    @property
    def counters(self) -> dict[str, float]:
        """The numbers among ``stats``: a worker of another version may report other things."""
        return numbers_of(self.stats)


def numbers_of(stats: dict[str, Any]) -> dict[str, float]:
    """Those of a worker's ``stats`` that are numbers."""
    return {
        name: value
        for name, value in stats.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class CostProfile(Base):
    """What a model's pictures cost, as its replicas measured; it outlives them."""

    __tablename__ = "cost_profiles"

    model: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[dict[str, Any]]
    """`pipelines.diffusion.batching.cost.Profile`."""
    max_batch: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
