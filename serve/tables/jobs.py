"""Jobs and their events."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import (
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column, relationship

from serve.tables.base import Base
from serve.tables.state import JobState, StateType, known_states

if TYPE_CHECKING:
    from serve.tables.images import Image


class Job(Base):
    """What a client asked for: ``n`` pictures of one prompt, in exactly one state."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        known_states("job_state"),
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
    image_sha256: Mapped[str | None]
    """The source that it is drawn from, and below the others: what keeps their files."""
    mask_sha256: Mapped[str | None]
    control_image_sha256: Mapped[str | None]
    error: Mapped[str | None]
    error_code: Mapped[str | None]
    """Set with ``error`` where a client is told more than that it failed."""
    warnings: Mapped[list[dict[str, str]] | None] = mapped_column(JSONB(none_as_null=True))
    """Set by its first picture that is drawn (`serve.worker.claims`)."""
    text_tokens: Mapped[int | None]
    """Of its prompts, as many as a picture's text encoder read; set likewise."""
    last_seq: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    prompt_words: Mapped[str] = mapped_column(
        TSVECTOR, server_default=FetchedValue(), deferred=True
    )
    """A trigger sets it: the words of the prompt, folded. Searched, and never read."""

    images: Mapped[list[Image]] = relationship(
        back_populates="job", order_by="Image.index", lazy="raise", passive_deletes=True
    )

    @property
    def prompt(self) -> str:
        """As asked; empty where a newer version keeps it otherwise."""
        prompt = self.params.get("prompt")
        return prompt if isinstance(prompt, str) else ""


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
