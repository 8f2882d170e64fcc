"""Why a client that waits for its pictures gets none."""

from __future__ import annotations

from uuid import UUID

from serve.errors import ServiceError
from serve.moderation.errors import ContentPolicyViolation, refused_picture
from serve.tables import Job, JobState


class JobOutcome(ServiceError):
    """A synchronous call whose job brought no pictures. Asking again would not help.

    The job has been retried as often as it may be; clients that retry by status code are told
    not to.
    """

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job_id: UUID = job.id

    @property
    def headers(self) -> dict[str, str]:
        """Which job it was."""
        return {"X-Should-Retry": "false", "X-Job-ID": str(self.job_id)}


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


def outcome_examples() -> list[JobOutcome]:
    """One of each, for the OpenAPI document."""
    job_id = UUID("019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60")
    refused = refused_picture()
    return [
        outcome_error(Job(id=job_id, state=state, error=error, error_code=code))
        for state, error, code in (
            (JobState.FAILED, refused.message, refused.code),
            (JobState.FAILED, "The storage is full.", None),
            (JobState.CANCELLED, None, None),
            (JobState.EXPIRED, None, None),
            (JobState.RUNNING, None, None),
        )
    ]
