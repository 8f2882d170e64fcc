"""What changed about the models since the service was configured."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from serve.tables.base import Base


class ModelChange(Base):
    """A model that was added, paused or removed while the service ran; one row a name."""

    __tablename__ = "model_changes"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'paused', 'removed')", name="known_model_state"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    pool: Mapped[str | None]
    """Set with ``settings`` where the model was added; else the configuration names it."""
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`serve.settings.FurtherModelSettings`; a newer version may write more fields."""
    declared: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether Serve's ``user_config`` says so; what it no longer says is taken back."""
    error: Mapped[str | None]
    """Why a replica could not take it up."""
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Lora(Base):
    """A LoRA that was uploaded for a model while the service ran; its file is in storage."""

    __tablename__ = "loras"

    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    """Of the file, in hex; its key has it too."""
    size: Mapped[int] = mapped_column(BigInteger)
    uploaded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
