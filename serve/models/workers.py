"""Replicas, and what they measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from serve.models.base import Base


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
