"""Expected failures of jobs."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class JobUnended(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "job_not_finished"
    title: ClassVar[str] = "The job has not ended"
    example = "The job is running; cancel it, or wait."


class JobFinished(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "job_finished"
    title: ClassVar[str] = "The job has ended"
    example = "The job has succeeded; there is nothing left to cancel."


class NothingNew(ServiceError):
    """The artist found no prompt that it had not drawn before."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "nothing_new"
    title: ClassVar[str] = "Nothing new to draw"
    example = (
        "All 200 prompts about 'owl' that the artist thought of were drawn within the last 30"
        " days; leave out the theme, or take another."
    )


class IdempotencyConflict(ServiceError):
    status: ClassVar[int] = 422
    code: ClassVar[str] = "idempotency_conflict"
    title: ClassVar[str] = "Idempotency-Key was used for another request"
    example = "This Idempotency-Key was used for another request; use a new key."


class Overloaded(ServiceError):
    """More work waits than is accepted; the client may try again later."""

    status: ClassVar[int] = 429
    code: ClassVar[str] = "overloaded"
    title: ClassVar[str] = "Too much work waits"
    example = (
        "This job would wait about 640 s for its turn, and 600 s are the most; try again later."
    )


class SourceGone(ServiceError):
    """The sweeper deleted a source because no job named it for too long."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "source_gone"
    title: ClassVar[str] = "The picture was kept too long without a job"
    example = "The picture was swept before its job came; send it again."


class ModelNotFound(ServiceError):
    status = 404
    code = "model_not_found"
    title = "No such model"
    example = "The model 'sdxl' is not served here; use 'sfumato-embedded'."


class ModelPaused(ServiceError):
    status = 409
    code = "model_paused"
    title = "The model is paused"
    example = "The model 'sdxl' takes no jobs since 2026-11-30T10:00:00Z; use another, or wait."
