"""The answer of every route that draws pictures: all of them, or a stream of their events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, Self
from uuid import UUID

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.preview import enlarge_preview
from serve.errors import ServiceError
from serve.events.event import Event, EventType
from serve.http.errors import InvalidValue
from serve.http.problems import openai_error, problem_of
from serve.jobs.request import JobRequest
from serve.openai.schemas import (
    AnswerQuality,
    Call,
    CompletedImage,
    Generation,
    GenerationBody,
    PartialImage,
    Usage,
    answer_quality,
)
from serve.openai.waiting import WaitingClient, file_in_base64, outcome_error, picture_files
from serve.pictures.schemas import warnings_of
from serve.storage import StorageUnavailable
from serve.tables import Job, JobState

_SILENCE_S = 15.0
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How a client wants its pictures."""

    call: Call
    quality: AnswerQuality | None = "medium"
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool = False

    @classmethod
    def of(cls, body: GenerationBody, call: Call) -> Self:
        """As the body asks.

        Raises:
            InvalidValue: it asks for what cannot be.
        """
        if body.background == "transparent":
            raise InvalidValue(
                "background `transparent` is not possible; use `auto` or `opaque`.",
                param="background",
            )
        if body.partial_images and not body.stream:
            raise InvalidValue(
                "partial_images come in a stream only; set `stream` as well.",
                param="partial_images",
            )
        if body.stream and body.response_format == "url":
            raise InvalidValue(
                "A stream carries the pictures themselves; leave out response_format `url`.",
                param="response_format",
            )
        return cls(call, answer_quality(body), body.response_format, bool(body.stream))


class PictureStream:
    """Server-Sent Events of one job, until its end.

    Progress is a hint: a partial picture may be missing, above all where a picture is drawn
    quickly. A finished one never is, as long as the job succeeds. What goes wrong comes as an
    event ``error``, and ends the stream.
    """

    def __init__(self, client: WaitingClient, form: AnswerForm) -> None:
        self._services = client.services
        self._client = client
        self._form = form

    def answer(self, job: Job, job_request: JobRequest) -> StreamingResponse:
        """The stream. If the client disconnects, its job is cancelled as `WaitingClient` does."""
        return _ClosedStream(
            self._events(job, job_request),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _events(self, job: Job, job_request: JobRequest) -> AsyncGenerator[bytes]:
        ended = False
        try:
            async for event in self._pictures(job, job_request):
                if event is None:
                    yield KEEPALIVE_COMMENT
                else:
                    data = event.model_dump_json(exclude_none=True)
                    yield format_sse_event(event=event.type, data_str=data)
            ended = True
        except (ServiceError, StorageUnavailable) as error:
            ended = True
            data = openai_error(problem_of(error)).model_dump_json()
            yield format_sse_event(event="error", data_str=data)
        finally:
            if not ended:
                await self._client.abandon(job)

    async def _pictures(
        self, job: Job, job_request: JobRequest
    ) -> AsyncIterator[PartialImage | CompletedImage | None]:
        """Events for the client; None after a long silence."""
        partial = _PartialImages(job_request.partial_images)
        async for event in self._followed(job):
            if event is None:
                yield None
            elif event.type is EventType.PROGRESS:
                if (number := partial.number(event)) is not None:
                    yield await self._partial(event, number, job_request)
            elif event.type is EventType.IMAGE_SUCCEEDED:
                yield await self._completed(event, job.tenant_id, job_request)
        job = await self._services.jobs.get(job.tenant_id, job.id)
        if job.state is not JobState.SUCCEEDED:
            raise outcome_error(job)

    async def _followed(self, job: Job) -> AsyncIterator[Event | None]:
        """The job's events up to its end, or as long as anybody waits; None after a silence."""
        heard_at = monotonic()
        until = heard_at + self._services.settings.jobs.wait_timeout_s
        async with self._services.jobs.feeds.open(job.tenant_id) as feed:
            await feed.watch(job.id)
            while (left := until - monotonic()) > 0:
                if self._services.drain.over.is_set():
                    raise await self._client.stopped(job)
                event = await feed.next(min(left, _LOOK_S))
                if event is None and monotonic() - heard_at < _SILENCE_S:
                    continue
                heard_at = monotonic()
                yield event
                if event is not None and event.type.terminal:
                    return

    async def _partial(
        self, event: Event, number: int, job_request: JobRequest
    ) -> PartialImage | None:
        """None where the preview is another version's, in a form that is not known."""
        kind = PictureFormat(job_request.output_format)
        try:
            small = base64.b64decode(event.data["preview"].partition(",")[2])
            file = await asyncio.to_thread(
                enlarge_preview, small, job_request.width, job_request.height, kind
            )
        except (ValueError, OSError):
            return None
        return PartialImage(
            type=f"{self._form.call}.partial_image",
            b64_json=base64.b64encode(file).decode(),
            partial_image_index=number,
            **self._common(event, job_request),
        )

    async def _completed(
        self, event: Event, tenant_id: UUID, job_request: JobRequest
    ) -> CompletedImage:
        image = await self._services.pictures.get(tenant_id, UUID(event.data["image_id"]))
        return CompletedImage(
            type=f"{self._form.call}.completed",
            b64_json=await file_in_base64(self._services, image),
            usage=Usage.of(job_request, 1, image.job.text_tokens),
            warnings=warnings_of(image.job) or None,
            **self._common(event, job_request),
        )

    def _common(self, event: Event, job_request: JobRequest) -> dict[str, Any]:
        return {
            "created_at": int(event.created_at.timestamp()),
            "output_format": job_request.output_format,
            "quality": self._form.quality or "auto",
            "size": f"{job_request.width}x{job_request.height}",
            "image_index": event.data["index"],
        }


class _PartialImages:
    """Chooses the previews to send, spread evenly over a picture's denoising.

    A picture that is drawn again, its replica having died, repeats none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: dict[str, int] = {}
        self._reached: dict[str, int] = {}

    def number(self, event: Event) -> int | None:
        """The event's number among its picture's partial ones, from 0; None to pass it over."""
        match event.data:
            case {
                "image_id": str(image_id),
                "index": int(),
                "step": int(step),
                "steps": int(steps),
                "preview": str(),
            } if steps > 0:
                part = round(step / steps * (self._most + 1))
            case _:
                return None  # it shows nothing, or is another version's
        if not self._reached.get(image_id, 0) < part <= self._most:
            return None
        self._reached[image_id] = part
        number = self._numbers.get(image_id, 0)
        self._numbers[image_id] = number + 1
        return number


class _ClosedStream(StreamingResponse):
    """Ends what it streams with itself, however it ends; Starlette leaves that to the collector."""

    body_iterator: AsyncGenerator[bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def answer(
    client: WaitingClient, request: Request, job_request: JobRequest, form: AnswerForm
) -> Generation | Response:
    """The pictures once all are done, or the stream at once.

    Raises:
        ServiceError: as `WaitingClient.submit` and its `wait` do.
    """
    if not form.stream:
        return await whole_answer(client, request, job_request, form)
    job = await client.submit(job_request)
    return PictureStream(client, form).answer(job, job_request)


async def whole_answer(
    client: WaitingClient, request: Request, job_request: JobRequest, form: AnswerForm
) -> Generation:
    """The pictures once all are done; raises the same."""
    job = await client.submit(job_request)
    job = await client.wait(job, request)
    return Generation(
        created=int((job.finished_at or job.created_at).timestamp()),
        data=await picture_files(client.services, job, form.response_format, request),
        output_format=job_request.output_format,
        quality=form.quality,
        size=f"{job_request.width}x{job_request.height}",
        usage=Usage.of(job_request, job_request.n, job.text_tokens),
        warnings=warnings_of(job) or None,
    )
