"""Expected failures of following jobs."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class JobNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "job_not_found"
    title: ClassVar[str] = "No such job"
    example = "There is no job 019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60."
