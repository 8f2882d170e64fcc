"""OpenAI's image generation: submit a job, wait for it, hand over the files."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.requests import Request

from serve.api.auth import Caller, ServicesDep
from serve.api.documented import openai_errors, picture_events
from serve.api.errors import InvalidValue
from serve.api.limits import Limits, seed_name
from serve.api.picture_files import PictureFiles
from serve.api.picture_stream import PictureStream
from serve.api.routes.jobs import IdempotencyKey, checked_key
from serve.api.schemas.generation import (
    Generation,
    GenerationBody,
    Usage,
    steps_of,
    told_quality,
)
from serve.api.synchronous import WaitingClient

router = APIRouter(tags=["images"])


@router.post(
    "/v1/images/generations",
    summary="Draw pictures",
    response_model=Generation,
    response_model_exclude_none=True,
    responses={
        **picture_events("The pictures, or with `stream` their events."),
        **openai_errors(400, 401, 404, 409, 413, 429, 500, 504),
    },
)
async def generate(
    body: GenerationBody,
    request: Request,
    caller: Caller,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> Generation | Response:
    """OpenAI's endpoint: its clients work unchanged. Answers when the pictures are done, or with
    `stream` tells of each on its way.

    Who leaves before that cancels the job, unless an Idempotency-Key says that they will be
    back for it.
    """
    key = checked_key(idempotency_key)
    _refuse_what_cannot_be(body)
    limits = Limits(services.settings, services.models, body.model)
    asked = limits.accept(
        body,
        size=limits.size(body.size),
        default_steps=steps_of(body.quality, limits.default_steps),
        seed_for=seed_name(caller.tenant_id, key),
        partial_images=body.partial_images or 0,
    )
    client = WaitingClient(services, caller.tenant_id, key)
    job = await client.submit(asked)
    quality = told_quality(body)
    if body.stream:
        return PictureStream(services, client, "image_generation", quality).answer(job)
    job = await client.wait(job, request)
    files = PictureFiles(services, caller.tenant_id)
    return Generation(
        created=int((job.finished_at or job.created_at).timestamp()),
        data=await files.of(job, body.response_format, request),
        output_format=body.output_format or "png",
        quality=quality,
        size=f"{asked.width}x{asked.height}",
        usage=Usage.of(asked, asked.n),
    )


def _refuse_what_cannot_be(body: GenerationBody) -> None:
    if body.background == "transparent":
        raise InvalidValue(
            "background `transparent` is not possible; use `auto` or `opaque`.", param="background"
        )
    if body.partial_images and not body.stream:
        raise InvalidValue(
            "partial_images come in a stream only; set `stream` as well.", param="partial_images"
        )
    if body.stream and body.response_format == "url":
        raise InvalidValue(
            "A stream carries the pictures themselves; leave out response_format `url`.",
            param="response_format",
        )
