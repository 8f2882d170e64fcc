"""A job's pictures as a stream of Server-Sent Events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.preview import enlarge_preview
from serve.errors import ServiceError
from serve.events.delivered import record_delivery
from serve.events.event import Event, EventType
from serve.http.problems import openai_error, problem_of
from serve.jobs.request import JobRequest
from serve.openai.errors import outcome_error
from serve.openai.schemas import AnswerQuality, Call, CompletedImage, PartialImage, Usage
from serve.pictures.schemas import warnings_of
from serve.storage import StorageUnavailable
from serve.tables import Job, JobState

if TYPE_CHECKING:
    from serve.openai.waiting import WaitingClient

_SILENCE_S = 15.0
_LOOK_S = 1.0


class PictureStream(StreamingResponse):
    """The events of one job, until its end.

    Progress is a hint: a partial picture may be missing, above all where a picture is drawn
    quickly. A finished one never is, as long as the job succeeds. What goes wrong comes as an
    event ``error``, and ends the stream. If the client disconnects, its job is cancelled as
    `WaitingClient` does.
    """

    body_iterator: AsyncGenerator[bytes]

    def __init__(
        self,
        client: WaitingClient,
        job: Job,
        job_request: JobRequest,
        call: Call,
        quality: AnswerQuality | None,
    ) -> None:
        self._client = client
        self._job = job
        self._request = job_request
        self._call = call
        self._quality = quality
        super().__init__(
            self._events(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Ends what it streams with itself, however it ends; Starlette leaves that to the collector.
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)

    async def _events(self) -> AsyncGenerator[bytes]:
        ended = False
        try:
            async for event in self._pictures():
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
                await self._client.abandon(self._job)

    async def _pictures(self) -> AsyncIterator[PartialImage | CompletedImage | None]:
        """Events for the client; None after a long silence."""
        partial = _PartialImages(self._request.partial_images)
        async for event in self._followed():
            if event is None:
                yield None
            elif event.type is EventType.PROGRESS:
                if (number := partial.number(event)) is not None:
                    yield await self._partial(event, number)
            elif event.type is EventType.IMAGE_SUCCEEDED:
                image = await self._client.pictures.get(
                    self._job.tenant_id, UUID(event.data["image_id"])
                )
                yield CompletedImage(
                    type=f"{self._call}.completed",
                    b64_json=await self._client.in_base64(image),
                    usage=Usage.of(self._request, 1, image.job.text_tokens),
                    warnings=warnings_of(image.job) or None,
                    **self._common(event),
                )
        job = await self._client.jobs.get(self._job.tenant_id, self._job.id)
        if job.state is not JobState.SUCCEEDED:
            raise outcome_error(job)

    async def _followed(self) -> AsyncIterator[Event | None]:
        """The job's events up to its end, or as long as anybody waits; None after a silence."""
        heard_at = monotonic()
        until = heard_at + self._client.wait_timeout_s
        async with self._client.jobs.feeds.open(self._job.tenant_id) as feed:
            await feed.watch(self._job.id)
            while (left := until - monotonic()) > 0:
                if self._client.drain.over.is_set():
                    raise await self._client.stopped(self._job)
                event = await feed.next(min(left, _LOOK_S))
                if event is None and monotonic() - heard_at < _SILENCE_S:
                    continue
                heard_at = monotonic()
                yield event
                if event is not None and event.type.terminal:
                    record_delivery(event, "sse", heard_at)
                    return

    async def _partial(self, event: Event, number: int) -> PartialImage | None:
        """None where the preview is another version's, in a form that is not known."""
        width, height = self._request.width, self._request.height
        kind = PictureFormat(self._request.output_format)
        try:
            small = base64.b64decode(event.data["preview"].partition(",")[2])
            file = await asyncio.to_thread(enlarge_preview, small, width, height, kind)
        except (ValueError, OSError):
            return None
        return PartialImage(
            type=f"{self._call}.partial_image",
            b64_json=base64.b64encode(file).decode(),
            partial_image_index=number,
            **self._common(event),
        )

    def _common(self, event: Event) -> dict[str, Any]:
        return {
            "created_at": int(event.created_at.timestamp()),
            "output_format": self._request.output_format,
            "quality": self._quality or "auto",
            "size": f"{self._request.width}x{self._request.height}",
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
