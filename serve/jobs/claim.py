"""A worker's hold on one picture."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from serve.jobs.request import JobRequest


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to draw one picture, good for as long as ``attempt`` is the current one."""

    image_id: UUID
    job_id: UUID
    tenant_id: UUID
    worker_id: UUID
    index: int
    attempt: int
    request: JobRequest
