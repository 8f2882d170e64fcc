"""OpenAI's endpoints: generations, edits, variations and models."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import anyio.to_thread
import orjson
from fastapi import APIRouter, Path, Request, Response

from serve.access.auth import Drawer, GuardedRoute, Reader, read_body
from serve.http.documented import Errors, form_body, openai_errors, picture_events, problems
from serve.http.errors import InvalidJson, InvalidValue
from serve.http.form import Form, Upload, checked, read_form
from serve.http.json_body import file_of_data_url, is_json
from serve.http.provided import Provided, provided
from serve.jobs.endpoints import DRAWING_ERRORS, FILE_ERRORS, IdempotencyKey, checked_key
from serve.jobs.errors import ModelNotFound
from serve.jobs.limits import ServedModels, seed_name
from serve.jobs.request import JobRequest
from serve.jobs.sourcing import Sourcing
from serve.openai.errors import outcome_examples
from serve.openai.schemas import (
    EditBody,
    EditJson,
    Generation,
    GenerationBody,
    ModelList,
    ModelOut,
    PictureReference,
    VariationBody,
    steps_of,
)
from serve.openai.waiting import WaitingClient
from serve.pictures.errors import FileDamaged, ImageDeleted, InvalidMask

router = APIRouter(tags=["images"], route_class=GuardedRoute)
models_router = APIRouter(tags=["models"], route_class=GuardedRoute)

_ERRORS: Errors = (*DRAWING_ERRORS, *outcome_examples(), ImageDeleted, FileDamaged)


@router.post(
    "/v1/images/generations",
    summary="Draw pictures",
    response_model=Generation,
    response_model_exclude_none=True,
    responses={
        **picture_events("image_generation", "The pictures, or with `stream` their events."),
        **openai_errors(*_ERRORS),
    },
)
async def generate(
    body: GenerationBody, request: Request, caller: Drawer, idempotency_key: IdempotencyKey = None
) -> Generation | Response:
    """OpenAI's endpoint; its clients work unchanged. The answer comes when the pictures are done,
    or with `stream` as events on the way.

    If the client disconnects before that, the job is cancelled, unless the request had an
    Idempotency-Key.
    """
    key = checked_key(idempotency_key)
    job_request = await _accept(request, caller.tenant_id, key, body, {})
    client = WaitingClient(request, caller.tenant_id, key)
    return await client.answer(job_request, body, "image_generation")


@router.post(
    "/v1/images/edits",
    summary="Edit a picture",
    response_model=Generation,
    response_model_exclude_none=True,
    responses={
        **picture_events("image_edit", "The pictures, or with `stream` their events."),
        **openai_errors(*_ERRORS, *FILE_ERRORS, InvalidMask),
    },
    openapi_extra=form_body(EditBody, "image", "mask", "control_image", as_json=EditJson),
)
async def edit(
    request: Request, caller: Drawer, idempotency_key: IdempotencyKey = None
) -> Generation | Response:
    """OpenAI's endpoint, a multipart form or JSON. Draws from `image`: all of it anew, or where
    `mask`, a PNG of the same size, is wholly transparent; what a mask keeps comes back pixel for
    pixel.

    Files are PNG or JPEG of at most 64 megapixels, or WebP of at most 17, told by their content.
    Orientation is applied, colours become sRGB's by their profile, everything but pixels is
    dropped, and what is transparent lies on white.
    """
    key = checked_key(idempotency_key)
    async with _read_edit(request) as form:
        if form.body.strength is not None and form.body.input_fidelity is not None:
            raise InvalidValue("Give strength or input_fidelity, not both.", param="strength")
        job_request = await _accept(request, caller.tenant_id, key, form.body, form.files)
    client = WaitingClient(request, caller.tenant_id, key)
    return await client.answer(job_request, form.body, "image_edit")


@router.post(
    "/v1/images/variations",
    summary="Vary a picture",
    response_model=Generation,
    response_model_exclude_none=True,
    responses=openai_errors(*_ERRORS, *FILE_ERRORS),
    openapi_extra=form_body(VariationBody, "image", "control_image"),
)
async def vary(
    request: Request, caller: Drawer, idempotency_key: IdempotencyKey = None
) -> Generation | Response:
    """OpenAI's endpoint, a multipart form. Draws from `image` with no prompt, so that its shapes
    stay and its details change; `strength` says how far. Files are as in an edit.
    """
    key = checked_key(idempotency_key)
    fields = read_form(request, VariationBody, required="image", optional=["control_image"])
    async with fields as form:
        job_request = await _accept(request, caller.tenant_id, key, form.body, form.files)
    client = WaitingClient(request, caller.tenant_id, key)
    return await client.answer(job_request, form.body, "image_edit")


async def _accept(
    request: Request,
    tenant_id: UUID,
    key: str | None,
    body: GenerationBody | VariationBody,
    files: Mapping[str, Upload],
) -> JobRequest:
    """The request with every field filled in and its pictures stored; ``files`` are by field.

    Raises:
        ServiceError: as `ServedModels.limits_for`, `Limits` and `Sourcing.keep` do.
        InvalidValue: the answer cannot be as the body asks.
    """
    if isinstance(body, GenerationBody):
        body.check_answer()
    sourcing = provided(request, Sourcing)
    limits = await provided(request, ServedModels).limits_for(body)
    mask = "mask" in files
    limits.check_source(image="image" in files, mask=mask)
    job_request = limits.accept(
        body,
        size=limits.size(body.size),
        default_steps=steps_of(body.quality, limits.default_steps),
        seed_for=seed_name(tenant_id, key),
        partial_images=body.partial_images or 0,
        without_prompt=isinstance(body, VariationBody),
    )
    if isinstance(body, EditBody | VariationBody):
        job_request = await sourcing.fit(
            limits,
            job_request,
            files["image"],
            size=body.size,
            strength=body.strength,
            default_strength=body.default_strength(mask=mask),
        )
    return await sourcing.keep(tenant_id, job_request, key, control=body.control, uploads=files)


@asynccontextmanager
async def _read_edit(request: Request) -> AsyncIterator[Form[EditBody]]:
    """The edit's fields and files; raises as `read_form` and `read_body` do."""
    if is_json(request.headers.get("content-type", "")):
        yield await _from_json(request)
        return
    optional = ["mask", "control_image"]
    async with read_form(request, EditBody, required="image", optional=optional) as form:
        yield form


async def _from_json(request: Request) -> Form[EditBody]:
    text = await read_body(request)
    try:
        body = checked(EditJson, orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from error
    if len(body.images) > 1:
        raise InvalidValue("images: one picture is taken, and several were sent.", param="images")
    files = {"image": await _upload(body.images[0], "images.0.image_url")}
    if body.mask is not None:
        files["mask"] = await _upload(body.mask, "mask.image_url")
    return Form(body, files)


async def _upload(reference: PictureReference, field: str) -> Upload:
    if not reference.image_url.startswith("data:"):
        raise InvalidValue(
            f"{field} must be a data URL, `data:image/png;base64,…`; addresses of pictures are"
            " not fetched.",
            param=field,
        )
    # Megabytes, which would keep the event loop from everybody else.
    file = await anyio.to_thread.run_sync(file_of_data_url, reference.image_url, field)
    return Upload(io.BytesIO(file), field)


@models_router.get("/v1/models", summary="List models", responses=problems())
async def list_models(_caller: Reader, served: Provided[ServedModels]) -> ModelList:
    """The default one first, each with its aliases and what a request may ask of it."""
    return ModelList(data=[ModelOut.of(name, served) for name in served.descriptions])


@models_router.get(
    "/v1/models/{model_id:path}", summary="Look at a model", responses=problems(ModelNotFound)
)
async def get_model(
    model_id: Annotated[str, Path(examples=["sfumato-embedded"])],
    _caller: Reader,
    served: Provided[ServedModels],
) -> ModelOut:
    """By its name or an alias. A name may hold slashes, as hub ids do."""
    return ModelOut.of(served.named(model_id), served)
