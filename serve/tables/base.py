"""What the tables have in common, and the states of a job and of each of its pictures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Dialect,
    LargeBinary,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from serve.open_enum import OpenEnum


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own spelling
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
    }

    @classmethod
    def table(cls) -> Table:
        """For statements that need no objects, whose construction takes time."""
        return cls.metadata.tables[cls.__tablename__]


class JobState(OpenEnum):
    """How far it is; while the service is updated, a state that is not listed here may be told."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in LIVE  # a newer version's counts as one: it is left as it is


LIVE = (JobState.QUEUED, JobState.RUNNING)


class StateType(TypeDecorator[JobState]):
    """The column: members alone are written, and whatever is there is read."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else JobState(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> JobState | None:
        return None if value is None else JobState.read(value)


def known_states(name: str) -> CheckConstraint:
    """A constraint of that name: the column ``state`` holds a member."""
    states = ", ".join(f"'{state}'" for state in JobState)
    return CheckConstraint(f"state IN ({states})", name=name)
