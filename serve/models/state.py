"""The states of a job and of each of its pictures."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum


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


def state_type(name: str) -> Enum:
    """The column type, whose constraint has this name."""
    return Enum(
        JobState,
        name=name,
        native_enum=False,
        length=16,
        create_constraint=True,
        values_callable=lambda states: [state.value for state in states],
    )
