"""Expected failures of the API itself."""

from __future__ import annotations

from uuid import UUID

from serve.errors import ServiceError
from serve.models import Job, JobState
from serve.moderation.errors import ContentPolicyViolation


class MissingKey(ServiceError):
    status = 401
    code = "missing_api_key"
    title = "No API key"


class InvalidValue(ServiceError):
    """A field whose value this service cannot take; ``param`` names it."""

    status = 422
    code = "invalid_value"
    title = "Invalid value"


class MissingField(ServiceError):
    status = 422
    code = "missing_field"
    title = "A field is missing"


class InvalidJson(ServiceError):
    status = 400
    code = "invalid_json"
    title = "Not JSON"


class JsonTooDeep(ServiceError):
    status = 400
    code = "json_too_deep"
    title = "JSON is nested too deep"


class InvalidForm(ServiceError):
    """The body is no multipart form, or none that can be read."""

    status = 400
    code = "invalid_form"
    title = "Not a form"


class InvalidPictureFile(ServiceError):
    """An upload that is cut short, damaged, or more than a picture."""

    status = 422
    code = "invalid_image"
    title = "Not a picture"


class UnsupportedPicture(InvalidPictureFile):
    code = "unsupported_image"


class PictureTooLarge(InvalidPictureFile):
    code = "image_too_large"


class AnimatedPicture(InvalidPictureFile):
    code = "animated_image"


class InvalidMask(InvalidPictureFile):
    code = "invalid_mask"


class ModelNotFound(ServiceError):
    status = 404
    code = "model_not_found"
    title = "No such model"


class VariantNotFound(ServiceError):
    status = 404
    code = "variant_not_found"
    title = "No such file of the picture"


class FileDamaged(ServiceError):
    """A stored file is not what was stored; only its operator can mend that."""

    status = 500
    code = "file_damaged"
    title = "The stored file is damaged"


class RangeNotSatisfiable(ServiceError):
    status = 416
    code = "range_not_satisfiable"
    title = "No such bytes"

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message, param="Range")
        self.size = size


class InvalidCursor(ServiceError):
    status = 422
    code = "invalid_cursor"
    title = "Invalid cursor"


class NotReady(ServiceError):
    status = 503
    code = "not_ready"
    title = "Not ready"


class ServerStopping(ServiceError):
    """Of a process that is about to end; the next one answers."""

    status = 503
    code = "stopping"
    title = "The server restarts"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=5)


class NothingToCome(Exception):
    """An ended job has no event that the client has not seen; 204 keeps it from coming back."""


class ClientLeft(ServiceError):
    """Nobody reads this; the request counts under nginx's number for it."""

    status = 499
    code = "client_left"
    title = "The client left"


class JobOutcome(ServiceError):
    """A synchronous call whose job brought no pictures. Asking again would not help.

    The job has been retried as often as it may be; clients that retry by status code are told
    not to.
    """

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job_id: UUID = job.id


class JobFailed(JobOutcome):
    status = 500
    code = "generation_failed"
    title = "The pictures could not be made"


class JobRefused(JobOutcome):
    """A picture was against the content policy: asking so again would bring the same."""

    status = ContentPolicyViolation.status
    code = ContentPolicyViolation.code
    title = ContentPolicyViolation.title


class JobCancelled(JobOutcome):
    status = 409
    code = "job_cancelled"
    title = "The job was cancelled"


class JobExpired(JobOutcome):
    status = 504
    code = "deadline_exceeded"
    title = "The deadline passed"


class JobUnfinished(JobOutcome):
    status = 504
    code = "wait_timeout"
    title = "Not finished in time"


def outcome_error(job: Job) -> JobOutcome:
    """The error that tells a waiting client why there is no picture."""
    match job.state:
        case JobState.FAILED if job.error_code == JobRefused.code:
            return JobRefused(job, f"Job {job.id} was refused: {job.error}")
        case JobState.FAILED:
            return JobFailed(job, f"Job {job.id} failed: {job.error or 'no reason is known.'}")
        case JobState.CANCELLED:
            return JobCancelled(job, f"Job {job.id} was cancelled.")
        case JobState.EXPIRED:
            return JobExpired(job, f"Job {job.id} was not finished by its deadline.")
        case _:
            return JobUnfinished(
                job, f"Job {job.id} is still {job.state}; follow it at /v1/jobs/{job.id}."
            )
