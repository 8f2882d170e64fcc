"""OpenAI's image generation: submit a job, wait for it, hand over the files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request

from pipelines.imaging.postprocess import ORIGINAL
from serve.api.auth import Drawer, ServicesDep
from serve.api.documented import openai_errors
from serve.api.errors import ClientLeft, InvalidValue, outcome_error
from serve.api.limits import Limits, seed_name
from serve.api.routes.jobs import IdempotencyKey, checked_key
from serve.api.schemas.generation import (
    GeneratedImage,
    Generation,
    GenerationBody,
    Quality,
    TokenDetails,
    Usage,
)
from serve.api.services import Services
from serve.errors import ServiceError
from serve.jobs.errors import JobFinished
from serve.jobs.request import JobRequest
from serve.models import Job, JobState

router = APIRouter(tags=["images"])

_STEPS: dict[Quality, float] = {
    "low": 0.5,
    "medium": 1.0,
    "standard": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 3.0,
}
_PATCH = 16


@router.post(
    "/v1/images/generations",
    summary="Draw pictures",
    response_model_exclude_none=True,
    responses=openai_errors(400, 401, 404, 409, 413, 429, 500, 504),
)
async def generate(
    body: GenerationBody,
    request: Request,
    caller: Drawer,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> Generation:
    """OpenAI's endpoint: its clients work unchanged. Answers when the pictures are done.

    Who leaves before that cancels the job, unless an Idempotency-Key says that they will be
    back for it.
    """
    key = checked_key(idempotency_key)
    _refuse_what_is_missing(body)
    limits = Limits(services.settings, services.models, body.model)
    asked = limits.accept(
        body,
        size=limits.size(body.size),
        default_steps=_steps(body.quality, limits.default_steps),
        seed_for=seed_name(caller.tenant_id, key),
    )
    job = await _submitted(services, caller.tenant_id, asked, key)
    job = await _finished(request, services, job, keep=key is not None)
    if job.state is not JobState.SUCCEEDED:
        raise outcome_error(job)
    return Generation(
        created=int((job.finished_at or job.created_at).timestamp()),
        data=await _pictures(services, job),
        output_format=body.output_format or "png",
        quality=_told_quality(body),
        size=f"{asked.width}x{asked.height}",
        usage=_usage(asked),
    )


def _refuse_what_is_missing(body: GenerationBody) -> None:
    if body.response_format == "url":
        raise InvalidValue(
            "response_format `url` is not offered yet; use `b64_json`.", param="response_format"
        )
    if body.background == "transparent":
        raise InvalidValue(
            "background `transparent` is not possible; use `auto` or `opaque`.", param="background"
        )
    if body.stream or body.partial_images:
        raise InvalidValue(
            "Streaming is not offered yet; leave out `stream` and `partial_images`, or follow"
            " the job on the WebSocket /v1/events.",
            param="stream" if body.stream else "partial_images",
        )


def _steps(quality: Quality | None, default: int) -> int:
    return max(1, round(default * _STEPS.get(quality or "medium", 1.0)))


async def _submitted(
    services: Services, tenant_id: UUID, asked: JobRequest, key: str | None
) -> Job:
    """The job, which a client that leaves in this very moment takes along too.

    A task of its own: a cancellation could fall between the commit and the job's id, and under
    Python 3.11 redis-py swallows one that arrives while it writes (``asyncio.wait_for``).
    """
    submitting = asyncio.create_task(
        services.jobs.submit(tenant_id, asked, idempotency_key=key), name="submit"
    )
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        if key is None:
            await asyncio.shield(_abandon_submitted(services, tenant_id, submitting))
        raise


async def _finished(request: Request, services: Services, job: Job, *, keep: bool) -> Job:
    """The job once it has ended, or as it is when the longest wait is over.

    A client that leaves takes the job along, unless it is to be kept.
    """
    waiting = asyncio.create_task(
        services.jobs.wait(job.tenant_id, job.id, services.settings.jobs.wait_timeout_s)
    )
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        if not keep:
            await _abandon(services, job.tenant_id, job.id)
        raise ClientLeft("The client left before its pictures were done.")
    except asyncio.CancelledError:
        # Ray Serve cancels the handler of a client that left instead of telling it.
        if not keep:
            await asyncio.shield(_abandon(services, job.tenant_id, job.id))
        raise
    finally:
        waiting.cancel()
        leaving.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    """Return when the client has gone; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _abandon_submitted(
    services: Services, tenant_id: UUID, submitting: asyncio.Task[Job]
) -> None:
    with contextlib.suppress(ServiceError):  # nobody is left to be told
        await _abandon(services, tenant_id, (await submitting).id)


async def _abandon(services: Services, tenant_id: UUID, job_id: UUID) -> None:
    with contextlib.suppress(JobFinished):  # it may end while the client leaves
        await services.jobs.cancel(tenant_id, job_id)


async def _pictures(services: Services, job: Job) -> list[GeneratedImage]:
    keys = [
        variant.storage_key
        for image in job.images
        for variant in image.variants
        if variant.name == ORIGINAL
    ]
    files = await asyncio.gather(*(services.storage.get(key) for key in keys))
    return [GeneratedImage(b64_json=base64.b64encode(file).decode()) for file in files]


def _told_quality(body: GenerationBody) -> Quality | None:
    if body.num_inference_steps is not None:
        return None
    if body.quality in (None, "auto", "standard"):
        return "medium"
    return "high" if body.quality == "hd" else body.quality


def _usage(asked: JobRequest) -> Usage:
    words = len(asked.prompt.split())
    patches = asked.n * -(-asked.width // _PATCH) * -(-asked.height // _PATCH)
    return Usage(
        input_tokens=words,
        input_tokens_details=TokenDetails(image_tokens=0, text_tokens=words),
        output_tokens=patches,
        output_tokens_details=TokenDetails(image_tokens=patches, text_tokens=0),
        total_tokens=words + patches,
    )
