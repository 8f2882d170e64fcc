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
    Call,
    CompletedImage,
    Generation,
    GenerationBody,
    PartialImage,
    ToldQuality,
    Usage,
    told_quality,
)
from serve.openai.waiting import OpenAIServices, PictureFiles, WaitingClient, outcome_error
from serve.pictures.schemas import warnings_of
from serve.storage import StorageUnavailable
from serve.tables import Job, JobState

_SILENCE_S = 15.0
_LOOK_S = 1.0


class PictureStream:
    """Server-Sent Events of one job, until its end.

    Progress is a hint: a partial picture may be missing, above all where a picture is drawn
    quickly. A finished one never is, as long as the job succeeds. What goes wrong comes as an
    event ``error``, and ends the stream.
    """

    def __init__(
        self,
        services: OpenAIServices,
        client: WaitingClient,
        call: Call,
        quality: ToldQuality | None,
    ) -> None:
        self._services = services
        self._client = client
        self._call = call
        self._quality = quality

    def answer(self, job: Job, asked: JobRequest) -> StreamingResponse:
        """The stream, with which a client that leaves takes the job along; ``asked`` is its own."""
        return _ClosedStream(
            self._events(job, asked),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _events(self, job: Job, asked: JobRequest) -> AsyncGenerator[bytes]:
        ended = False
        try:
            async for event in self._pictures(job, asked):
                if event is None:
                    yield KEEPALIVE_COMMENT
                else:
                    told = event.model_dump_json(exclude_none=True)
                    yield format_sse_event(event=event.type, data_str=told)
            ended = True
        except (ServiceError, StorageUnavailable) as error:
            ended = True
            told = openai_error(problem_of(error)).model_dump_json()
            yield format_sse_event(event="error", data_str=told)
        finally:
            if not ended:
                await self._client.abandon(job)

    async def _pictures(
        self, job: Job, asked: JobRequest
    ) -> AsyncIterator[PartialImage | CompletedImage | None]:
        """What is to be told; None for nothing, as after a long silence."""
        partial = _PartialImages(asked.partial_images)
        async for event in self._followed(job):
            if event is None:
                yield None
            elif event.type is EventType.PROGRESS:
                if (number := partial.number(event)) is not None:
                    yield await self._partial(event, number, asked)
            elif event.type is EventType.IMAGE_SUCCEEDED:
                yield await self._completed(event, job.tenant_id, asked)
        job = await self._services.jobs.get(job.tenant_id, job.id)
        if job.state is not JobState.SUCCEEDED:
            raise outcome_error(job)

    async def _followed(self, job: Job) -> AsyncIterator[Event | None]:
        """The job's events up to its end, or as long as anybody waits; None after a silence."""
        heard_at = monotonic()
        until = heard_at + self._services.wait_timeout_s
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

    async def _partial(self, event: Event, number: int, asked: JobRequest) -> PartialImage | None:
        """None where the preview is another version's, in a form that is not known."""
        kind = PictureFormat(asked.output_format)
        try:
            small = base64.b64decode(event.data["preview"].partition(",")[2])
            file = await asyncio.to_thread(enlarge_preview, small, asked.width, asked.height, kind)
        except (ValueError, OSError):
            return None
        return PartialImage(
            type=f"{self._call}.partial_image",
            b64_json=base64.b64encode(file).decode(),
            partial_image_index=number,
            **self._common(event, asked),
        )

    async def _completed(self, event: Event, tenant_id: UUID, asked: JobRequest) -> CompletedImage:
        image = await self._services.pictures.get(tenant_id, UUID(event.data["image_id"]))
        return CompletedImage(
            type=f"{self._call}.completed",
            b64_json=await PictureFiles(self._services, tenant_id).base64_of(image),
            usage=Usage.of(asked, 1, image.job.text_tokens),
            warnings=warnings_of(image.job) or None,
            **self._common(event, asked),
        )

    def _common(self, event: Event, asked: JobRequest) -> dict[str, Any]:
        return {
            "created_at": int(event.created_at.timestamp()),
            "output_format": asked.output_format,
            "quality": self._quality or "auto",
            "size": f"{asked.width}x{asked.height}",
            "image_index": event.data["index"],
        }


class _PartialImages:
    """Which previews to tell, so that those asked for are spread over a picture's way.

    A picture that is drawn again, its replica having died, repeats none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: dict[str, int] = {}
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
        number = self._told.get(image_id, 0)
        self._told[image_id] = number + 1
        return number


class _ClosedStream(StreamingResponse):
    """Ends what it streams with itself, however it ends; Starlette leaves that to the collector."""

    body_iterator: AsyncGenerator[bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How a client wants its pictures."""

    call: Call
    quality: ToldQuality | None = "medium"
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
        return cls(call, told_quality(body), body.response_format, bool(body.stream))


class PictureAnswer:
    """Submits what is asked, and answers one client with it."""

    def __init__(
        self, services: OpenAIServices, tenant_id: UUID, key: str | None, request: Request
    ) -> None:
        """``key`` is the Idempotency-Key, by which a client that leaves may come back."""
        self._services = services
        self._tenant_id = tenant_id
        self._client = WaitingClient(services, tenant_id, key)
        self._request = request

    async def to(self, asked: JobRequest, form: AnswerForm) -> Generation | Response:
        """The pictures once all are done, or the stream at once.

        Raises:
            ServiceError: as `WaitingClient.submit` and its `wait` do.
        """
        if not form.stream:
            return await self.whole(asked, form)
        job = await self._client.submit(asked)
        return PictureStream(self._services, self._client, form.call, form.quality).answer(
            job, asked
        )

    async def whole(self, asked: JobRequest, form: AnswerForm) -> Generation:
        """The pictures once all are done; raises the same."""
        job = await self._client.submit(asked)
        job = await self._client.wait(job, self._request)
        files = PictureFiles(self._services, self._tenant_id)
        return Generation(
            created=int((job.finished_at or job.created_at).timestamp()),
            data=await files.of(job, form.response_format, self._request),
            output_format=asked.output_format,
            quality=form.quality,
            size=f"{asked.width}x{asked.height}",
            usage=Usage.of(asked, asked.n, job.text_tokens),
            warnings=warnings_of(job) or None,
        )
