"""A worker's hold on one picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from serve.jobs.request import JobRequest
from serve.pictures.stored_file import SourceKey


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to draw one picture, good for as long as ``attempt`` is the current one.

    ``alone``: it was lost with a worker before, and shares no step. ``deadline_s`` is what is left
    of its job's deadline, in seconds.
    """

    image_id: UUID
    job_id: UUID
    tenant_id: UUID
    worker_id: UUID
    index: int
    attempt: int
    request: JobRequest
    alone: bool = False
    deadline_s: float | None = field(default=None, compare=False)

    @property
    def sources(self) -> dict[str, SourceKey]:
        """What it is drawn from, by the request's field that names it."""
        return self.request.sources(self.tenant_id)
