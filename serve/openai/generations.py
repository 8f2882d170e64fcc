"""OpenAI's image generation: submit a job, wait for it, hand over the files."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.requests import Request

from serve.access.auth import Drawer
from serve.access.guarded_route import GuardedRoute
from serve.http.documented import openai_errors, picture_events
from serve.http.provided import Provided
from serve.jobs.endpoints import IdempotencyKey, checked_key
from serve.jobs.limits import seed_name
from serve.openai.generation import Generation, GenerationBody, steps_of
from serve.openai.picture_answer import AnswerForm, PictureAnswer
from serve.openai.services import OpenAIServices

router = APIRouter(tags=["images"], route_class=GuardedRoute)


@router.post(
    "/v1/images/generations",
    summary="Draw pictures",
    response_model=Generation,
    response_model_exclude_none=True,
    responses={
        **picture_events("The pictures, or with `stream` their events."),
        **openai_errors(400, 401, 404, 409, 410, 413, 429, 500, 503, 504),
    },
)
async def generate(
    body: GenerationBody,
    request: Request,
    caller: Drawer,
    services: Provided[OpenAIServices],
    idempotency_key: IdempotencyKey = None,
) -> Generation | Response:
    """OpenAI's endpoint: its clients work unchanged. Answers when the pictures are done, or with
    `stream` tells of each on its way.

    Who leaves before that cancels the job, unless an Idempotency-Key says that they will be
    back for it.
    """
    key = checked_key(idempotency_key)
    form = AnswerForm.of(body, "image_generation")
    limits = services.models.limits(body.model)
    limits.check_source(image=False)
    asked = limits.accept(
        body,
        size=limits.size(body.size),
        default_steps=steps_of(body.quality, limits.default_steps),
        seed_for=seed_name(caller.tenant_id, key),
        partial_images=body.partial_images or 0,
    )
    asked = await services.sourcing.keep(caller.tenant_id, asked, key, control=body.control)
    return await PictureAnswer(services, caller.tenant_id, key, request).to(asked, form)
