"""Jobs whose client waits on its connection, and what it is answered."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import anyio
from starlette.requests import Request

from pipelines.imaging.postprocess import ORIGINAL
from serve.errors import ServiceError
from serve.http.address import base_url
from serve.http.drain import Drain
from serve.http.errors import ClientLeft, ServerStopping
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels
from serve.jobs.request import JobRequest
from serve.jobs.sourcing import Sourcing
from serve.moderation.errors import ContentPolicyViolation, refused_picture
from serve.openai.schemas import GeneratedImage
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.errors import ImageDeleted
from serve.pictures.pictures import Pictures
from serve.pictures.signed_urls import File, SignedUrls
from serve.pictures.sources import Intake
from serve.settings import Settings
from serve.tables import Image, Job, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIServices:
    """What OpenAI's routes use; one ingress process has one of each."""

    settings: Settings
    models: ServedModels
    jobs: Jobs
    pictures: Pictures
    files: CheckedFiles
    intake: Intake
    signed_urls: SignedUrls
    drain: Drain

    @property
    def sourcing(self) -> Sourcing:
        return Sourcing(self.jobs, self.pictures, self.files, self.intake)


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


class WaitingClient:
    """Submits a job and waits for its end.

    If the client disconnects before, the job is cancelled, unless the request had an
    Idempotency-Key.
    """

    def __init__(
        self, services: OpenAIServices, tenant_id: UUID, idempotency_key: str | None = None
    ) -> None:
        self.services = services
        self._tenant_id = tenant_id
        self._key = idempotency_key

    async def submit(self, job_request: JobRequest) -> Job:
        """The job, accepted.

        A task of its own: a cancellation could fall between the commit and the job's id, and
        under Python 3.11 redis-py swallows one that arrives while it writes
        (``asyncio.wait_for``).

        Raises:
            IdempotencyConflict, Overloaded: as `Jobs.submit` does.
        """
        submitting = asyncio.create_task(
            self.services.jobs.submit(self._tenant_id, job_request, idempotency_key=self._key),
            name="submit",
        )
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), contextlib.suppress(ServiceError):
                await self.abandon(await submitting)
            raise

    async def wait(self, job: Job, request: Request) -> Job:
        """The job once it has succeeded.

        Raises:
            JobOutcome: it ended otherwise, or not within the longest wait.
            ClientLeft: nobody waits any more.
            ServerStopping: the process ends before the job.
        """
        waiting = asyncio.create_task(
            self.services.jobs.wait(
                self._tenant_id, job.id, self.services.settings.jobs.wait_timeout_s
            )
        )
        leaving = asyncio.create_task(_left(request))
        stopping = asyncio.create_task(self.services.drain.over.wait())
        others = (leaving, stopping)
        try:
            await asyncio.wait({waiting, *others}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not waiting.done():
                await self.abandon(job)
                raise ClientLeft("The client left before its pictures were done.")
            if not waiting.done():
                raise await self.stopped(job)
            job = waiting.result()
        except asyncio.CancelledError:
            # Ray Serve cancels the handler of a client that left instead of telling it.
            await self.abandon(job)
            raise
        finally:
            for task in (waiting, *others):
                task.cancel()
            await asyncio.gather(waiting, *others, return_exceptions=True)
        if job.state is not JobState.SUCCEEDED:
            raise outcome_error(job)
        return job

    async def abandon(self, job: Job) -> None:
        """The client has gone: cancel what it will not come back for, whatever is cancelled here.

        It may have ended meanwhile, and nobody is left to be told of a failure.
        """
        if self._key is None:
            with anyio.CancelScope(shield=True), contextlib.suppress(ServiceError):
                await self.services.jobs.cancel(self._tenant_id, job.id)

    async def stopped(self, job: Job) -> ServerStopping:
        """What to tell a client whose pictures this process will not see."""
        await self.abandon(job)
        if self._key is None:
            return ServerStopping(
                "The server restarts before the pictures are done, and has cancelled them; send"
                " the request again."
            )
        return ServerStopping(
            "The server restarts before the pictures are done, and goes on with them afterwards;"
            " send the request again with the same Idempotency-Key."
        )


async def _left(request: Request) -> None:
    """Return when the client has gone; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def picture_files(
    services: OpenAIServices, job: Job, form: Literal["b64_json", "url"] | None, request: Request
) -> list[GeneratedImage]:
    """The original files of the job's pictures, in order: themselves, or their signed URLs.

    Raises:
        ImageDeleted: one was deleted meanwhile, or before the same request came again.
        FileDamaged, StorageUnavailable: as `CheckedFiles` does.
    """
    if deleted := [image for image in job.images if image.deleted_at is not None]:
        raise ImageDeleted(f"Image {deleted[0].id} of job {job.id} was deleted.")
    if form == "url":
        base = base_url(request)
        urls = [await _signed_url(services, job.tenant_id, image.id, base) for image in job.images]
        return [GeneratedImage(url=url) for url in urls]
    files = await asyncio.gather(*(file_in_base64(services, image) for image in job.images))
    return [GeneratedImage(b64_json=file) for file in files]


async def file_in_base64(services: OpenAIServices, image: Image) -> str:
    """The picture's original file; raises the same."""
    original = next(file for file in image.variants if file.name == ORIGINAL)
    file = await services.files.whole(image.tenant_id, original)
    return base64.b64encode(file).decode()


async def _signed_url(services: OpenAIServices, tenant_id: UUID, image_id: UUID, base: str) -> str:
    """Opens the picture's file for a while, at whichever ingress."""
    signature = await services.signed_urls.sign(tenant_id, File(image_id, ORIGINAL))
    return f"{base}/v1/images/{image_id}/{ORIGINAL}?signature={signature}"
