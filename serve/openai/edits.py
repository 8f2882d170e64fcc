"""OpenAI's edits and variations: keep the picture that comes in, and draw from it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from fastapi import APIRouter, Response
from starlette.requests import Request

from serve.access.auth import Drawer
from serve.access.guarded_route import GuardedRoute
from serve.http.documented import form_body, openai_errors, picture_events
from serve.http.errors import InvalidValue
from serve.http.form import Form, read_form
from serve.http.provided import Provided
from serve.jobs.endpoints import IdempotencyKey, checked_key
from serve.jobs.limits import Limits, seed_name
from serve.jobs.request import JobRequest
from serve.openai.edit import EditBody, EditJson, VariationBody
from serve.openai.edit_request import read_edit
from serve.openai.generation import Generation, steps_of
from serve.openai.picture_answer import AnswerForm, PictureAnswer
from serve.openai.services import OpenAIServices

router = APIRouter(tags=["images"], route_class=GuardedRoute)

_VARIATION_STRENGTH = 0.6
_ERRORS = openai_errors(400, 401, 404, 409, 410, 413, 429, 500, 503, 504)


@router.post(
    "/v1/images/edits",
    summary="Edit a picture",
    response_model=Generation,
    response_model_exclude_none=True,
    responses={**picture_events("The pictures, or with `stream` their events."), **_ERRORS},
    openapi_extra=form_body(EditBody, "image", "mask", "control_image", as_json=EditJson),
)
async def edit(
    request: Request,
    caller: Drawer,
    services: Provided[OpenAIServices],
    idempotency_key: IdempotencyKey = None,
) -> Generation | Response:
    """OpenAI's endpoint, a multipart form or JSON. Draws from `image`: all of it anew, or where
    `mask`, a PNG of the same size, is wholly transparent; what a mask keeps comes back pixel for
    pixel.

    Files are PNG or JPEG of at most 64 megapixels, or WebP of at most 17, told by their content.
    Orientation is applied, colours become sRGB's by their profile, everything but pixels is
    dropped, and what is transparent lies on white.
    """
    key = checked_key(idempotency_key)
    async with read_edit(request) as form:
        body, mask = form.body, form.files.get("mask")
        if body.strength is not None and body.input_fidelity is not None:
            raise InvalidValue("Give strength or input_fidelity, not both.", param="strength")
        answer = AnswerForm.of(body, "image_edit")
        limits = services.models.limits(body.model)
        limits.check_source(image=True, mask=mask is not None)
        asked = limits.accept(
            body,
            size=limits.size(body.size),
            default_steps=steps_of(body.quality, limits.default_steps),
            seed_for=seed_name(caller.tenant_id, key),
            partial_images=body.partial_images or 0,
        )
        default = body.default_strength(mask=mask is not None)
        strength = limits.strength(body.strength, default, asked.num_inference_steps)
        asked = replace(asked, strength=strength)
        asked = await _fitted(services, caller.tenant_id, asked, key, form, limits)
    return await PictureAnswer(services, caller.tenant_id, key, request).to(asked, answer)


@router.post(
    "/v1/images/variations",
    summary="Vary a picture",
    response_model_exclude_none=True,
    responses=_ERRORS,
    openapi_extra=form_body(VariationBody, "image", "control_image"),
)
async def vary(
    request: Request,
    caller: Drawer,
    services: Provided[OpenAIServices],
    idempotency_key: IdempotencyKey = None,
) -> Generation:
    """OpenAI's endpoint, a multipart form. Draws from `image` with no prompt, so that its shapes
    stay and its details change; `strength` says how far. Files are as in an edit.
    """
    key = checked_key(idempotency_key)
    fields = read_form(request, VariationBody, required="image", optional=["control_image"])
    async with fields as form:
        body = form.body
        limits = services.models.limits(body.model)
        limits.check_source(image=True)
        asked = limits.accept(
            body,
            size=limits.size(body.size),
            seed_for=seed_name(caller.tenant_id, key),
            without_prompt=True,
        )
        strength = limits.strength(body.strength, _VARIATION_STRENGTH, asked.num_inference_steps)
        asked = replace(asked, strength=strength)
        asked = await _fitted(services, caller.tenant_id, asked, key, form, limits)
    answer = PictureAnswer(services, caller.tenant_id, key, request)
    return await answer.whole(asked, AnswerForm("image_edit", None, body.response_format))


async def _fitted(
    services: OpenAIServices,
    tenant_id: UUID,
    asked: JobRequest,
    key: str | None,
    form: Form[EditBody] | Form[VariationBody],
    limits: Limits,
) -> JobRequest:
    """The request with its sources, at the size that follows from its picture."""
    own = await services.intake.size(form.files["image"])
    width, height = limits.size_from(form.body.size, own, asked.output_format)
    asked = replace(asked, width=width, height=height)
    control = form.body.control
    return await services.sourcing.keep(tenant_id, asked, key, control=control, uploads=form.files)
