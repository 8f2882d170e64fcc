"""Expected failures of jobs."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class JobUnended(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "job_not_finished"
    title: ClassVar[str] = "The job has not ended"


class JobFinished(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "job_finished"
    title: ClassVar[str] = "The job has ended"


class IdempotencyConflict(ServiceError):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "idempotency_conflict"
    title: ClassVar[str] = "Idempotency-Key was used for another request"


class Overloaded(ServiceError):
    """More work waits than is accepted; the client may try again later."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "overloaded"
    title: ClassVar[str] = "Too much work waits"


class SourceGone(ServiceError):
    """The sweeper deleted a source because no job named it for too long."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "source_gone"
    title: ClassVar[str] = "The picture was kept too long without a job"


class SourceLost(Exception):
    """A source could not be read, in every attempt."""


class PostprocessFailed(Exception):
    """A drawn picture was refused, or could not be encoded or stored, in every attempt.

    ``code`` is the job's ``error_code``, where the failure has one.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class PostprocessLost(Exception):
    """A post-process replica died or cannot be reached; another may do the same."""


class ForeignStorage(Exception):
    """The storage belongs to another database, so this service must delete nothing in it."""


class EngineDied(Exception):
    """The engine's loop ended by an error of its own; the replica must be replaced."""


class ModelNotFound(ServiceError):
    status = 404
    code = "model_not_found"
    title = "No such model"
