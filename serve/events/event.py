"""Events of jobs: what happened, and how it is written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from serve.open_enum import OpenEnum


class EventType(OpenEnum):
    """What happened; types that are not listed here may come, and none of them ends a job."""

    QUEUED = "job.queued"
    RUNNING = "job.running"
    PROGRESS = "image.progress"
    IMAGE_SUCCEEDED = "image.succeeded"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED}
)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    ``seq`` counts a job's durable events from 1. It is None for ephemeral events (progress), which
    are never replayed.
    """

    tenant_id: UUID
    job_id: UUID
    seq: int | None
    type: EventType
    created_at: datetime
    data: dict[str, Any] = field(default_factory=dict)
    traceparent: str | None = field(default=None, compare=False)
    """The job's trace, at least with its last event: who delivers that adds a span."""

    def encode(self) -> bytes:
        """The message between processes."""
        return to_json(self, exclude=None if self.traceparent else {"traceparent"})

    @cached_property
    def text(self) -> str:
        """The JSON that clients read. It is made once a process, however many clients read it."""
        return to_json(self, exclude={"tenant_id", "traceparent"}).decode()

    @cached_property
    def without_preview(self) -> Event:
        """The same progress without its picture. It is made once as well."""
        if "preview" not in self.data:
            return self
        data = {name: value for name, value in self.data.items() if name != "preview"}
        return replace(self, data=data)

    @property
    def image_id(self) -> str | None:
        """The picture that the event is about, if it is about one."""
        return text_or_none(self.data.get("image_id"))

    @classmethod
    def decode(cls, message: bytes) -> Event:
        """Read what ``encode`` made. Fields that a newer version added are ignored.

        Raises:
            Exception: of any kind, if the message is not an event.
        """
        fields = from_json(message)
        seq = fields["seq"]
        return cls(
            tenant_id=UUID(fields["tenant_id"]),
            job_id=UUID(fields["job_id"]),
            seq=None if seq is None else int(seq),
            type=EventType.read(fields["type"]),
            created_at=datetime.fromisoformat(fields["created_at"]),
            data=event_data(fields["data"]),
            traceparent=text_or_none(fields.get("traceparent")),
        )


def text_or_none(value: Any) -> str | None:
    """The value if it is a text: another version may have written something else there."""
    return value if isinstance(value, str) else None


def event_data(value: Any) -> dict[str, Any]:
    """An event's data as it was read; empty if another version wrote something else there."""
    return value if isinstance(value, dict) else {}
