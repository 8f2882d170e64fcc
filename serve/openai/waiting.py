"""Calls whose client waits on its connection for its pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from uuid import UUID

import anyio
from fastapi import Request, Response
from structlog.contextvars import bind_contextvars

from pipelines.imaging.postprocess import ORIGINAL
from serve.errors import ServiceError
from serve.http.address import base_url
from serve.http.drain import Drain
from serve.http.errors import ClientLeft, ServerStopping
from serve.http.provided import provided
from serve.jobs.lifecycle import Jobs
from serve.jobs.request import JobRequest
from serve.observability import tracing
from serve.observability.logging import hide
from serve.observability.tracing import TraceContext
from serve.openai.errors import outcome_error
from serve.openai.schemas import (
    Call,
    GeneratedImage,
    Generation,
    GenerationBody,
    Usage,
    VariationBody,
    answer_quality,
)
from serve.openai.stream import PictureStream
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.errors import ImageDeleted
from serve.pictures.pictures import Pictures
from serve.pictures.schemas import warnings_of
from serve.pictures.signed_urls import SignedUrls
from serve.settings import Settings
from serve.tables import Image, Job, JobState


class WaitingClient:
    """Submits a job, and answers with its pictures.

    If the client disconnects before that, the job is cancelled, unless the request had an
    Idempotency-Key.
    """

    def __init__(self, request: Request, tenant_id: UUID, idempotency_key: str | None) -> None:
        self._request = request
        self._tenant_id = tenant_id
        self._key = idempotency_key
        self.jobs = provided(request, Jobs)
        self.pictures = provided(request, Pictures)
        self.drain = provided(request, Drain)
        self.wait_timeout_s = provided(request, Settings).jobs.wait_timeout_s

    async def answer(
        self, job_request: JobRequest, body: GenerationBody | VariationBody, call: Call
    ) -> Generation | Response:
        """The pictures once all are done, or as the body asks a stream of their events at once.

        Raises:
            ServiceError: as `Jobs.submit` and `wait` do.
            ImageDeleted: one was deleted meanwhile, or before the same request came again.
            FileDamaged, StorageUnavailable: as `CheckedFiles` does.
        """
        # A task of its own: a cancellation could fall between the commit and the job's id, and
        # under Python 3.11 redis-py swallows one that arrives while it writes (asyncio.wait_for).
        submitting = asyncio.create_task(
            self.jobs.submit(
                self._tenant_id,
                job_request,
                idempotency_key=self._key,
                reuse=body.cache == "allow",
            ),
            name="submit",
        )
        try:
            job = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), contextlib.suppress(ServiceError):
                await self.abandon(await submitting)
            raise
        # Again: `submit` did both in a task of its own.
        hide(job_request.prompt, job_request.negative_prompt)
        bind_contextvars(job_id=str(job.id))
        if body.stream:
            return PictureStream(self, job, job_request, call, answer_quality(body))
        job = await self.wait(job)
        trace = TraceContext.of(job.traceparent, job.tracestate)
        attributes = {"sfumato.job.id": str(job.id), "sfumato.transport": "call"}
        with tracing.timed("deliver", trace, attributes=attributes):
            return await self._generation(job, job_request, body)

    async def _generation(
        self, job: Job, job_request: JobRequest, body: GenerationBody | VariationBody
    ) -> Generation:
        if deleted := [image for image in job.images if image.deleted_at is not None]:
            raise ImageDeleted(f"Image {deleted[0].id} of job {job.id} was deleted.")
        if body.response_format == "url":
            data = [GeneratedImage(url=await self._signed_url(image)) for image in job.images]
        else:
            files = await asyncio.gather(*(self.in_base64(image) for image in job.images))
            data = [GeneratedImage(b64_json=file) for file in files]
        return Generation(
            created=int((job.finished_at or job.created_at).timestamp()),
            data=data,
            output_format=job_request.output_format,
            quality=answer_quality(body),
            size=f"{job_request.width}x{job_request.height}",
            usage=Usage.of(job_request, job_request.n, job.text_tokens),
            warnings=warnings_of(job) or None,
        )

    async def wait(self, job: Job) -> Job:
        """The job once it has succeeded.

        Raises:
            JobOutcome: it ended otherwise, or not within the longest wait.
            ClientLeft: nobody waits any more.
            ServerStopping: the process ends before the job.
        """
        waiting = asyncio.create_task(self.jobs.wait(self._tenant_id, job.id, self.wait_timeout_s))
        leaving = asyncio.create_task(self._left())
        stopping = asyncio.create_task(self.drain.over.wait())
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
                await self.jobs.cancel(self._tenant_id, job.id)

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

    async def in_base64(self, image: Image) -> str:
        """The picture's original file; raises as `CheckedFiles` does."""
        original = next(file for file in image.variants if file.name == ORIGINAL)
        file = await provided(self._request, CheckedFiles).whole(self._tenant_id, original)
        return base64.b64encode(file).decode()

    async def _signed_url(self, image: Image) -> str:
        """Opens the picture's original file for a while, at whichever ingress."""
        urls = provided(self._request, SignedUrls)
        signature = await urls.sign(self._tenant_id, image.id, ORIGINAL)
        base = base_url(self._request)
        return f"{base}/v1/images/{image.id}/{ORIGINAL}?signature={signature}"

    async def _left(self) -> None:
        """Return when the client has gone; its body has been read before."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
