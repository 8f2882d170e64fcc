"""Pictures, their files, and what comes in."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from serve.tables.base import Base
from serve.tables.state import JobState, StateType, known_states

if TYPE_CHECKING:
    from serve.tables.jobs import Job


SHOWN = "state = 'succeeded' AND deleted_at IS NULL"
"""What the gallery lists; a constant, because that alone is served by a partial index."""

MAX_SEED = 2**63 - 1


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
