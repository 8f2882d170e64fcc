"""Expected failures of following jobs."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class JobNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "job_not_found"
    title: ClassVar[str] = "No such job"
