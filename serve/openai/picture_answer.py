"""What every route that draws pictures answers: all of them, or a stream of their events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self
from uuid import UUID

from fastapi import Response
from starlette.requests import Request

from serve.http.errors import InvalidValue
from serve.jobs.request import JobRequest
from serve.openai.generation import Generation, GenerationBody, ToldQuality, Usage, told_quality
from serve.openai.picture_event import Call
from serve.openai.picture_files import PictureFiles
from serve.openai.picture_stream import PictureStream
from serve.openai.services import OpenAIServices
from serve.openai.synchronous import WaitingClient
from serve.pictures.warning import warnings_of


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
