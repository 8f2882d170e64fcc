"""What is asked for and liked, by its words."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from serve.tables.base import Base


class Signal(Base):
    """Somebody asked for a job's pictures, liked one or saved one; it is yet to be counted."""

    __tablename__ = "signals"
    __table_args__ = (
        CheckConstraint("kind IN ('asked', 'favoured', 'downloaded')", name="known_kind"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class TermCount(Base):
    """How often a tenant's prompts had a term within ten minutes."""

    __tablename__ = "term_counts"
    __table_args__ = (Index("term_counts_by_time", "since"),)

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    since: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    term: Mapped[str] = mapped_column(primary_key=True)
    asked: Mapped[int] = mapped_column(server_default="0")
    favoured: Mapped[int] = mapped_column(server_default="0")
    downloaded: Mapped[int] = mapped_column(server_default="0")
