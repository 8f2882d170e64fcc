"""Replicas, and what they measured."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from serve.tables.base import Base


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
    """The engine's counters at the last heartbeat (EngineStats); see ``counters``."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    @property
    def counters(self) -> dict[str, float]:
        """The numbers among ``stats``: a worker of another version may tell other things."""
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
