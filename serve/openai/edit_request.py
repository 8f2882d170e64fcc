"""An edit as it comes in: a multipart form, or JSON with its files as data URLs."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import orjson
from starlette.requests import Request

from serve.access.guarded_route import read_body
from serve.http.data_url import file_of_data_url
from serve.http.errors import InvalidJson, InvalidValue
from serve.http.form import Form, Upload, checked, read_form
from serve.http.json_depth import is_json
from serve.openai.edit import EditBody, EditJson, PictureReference


@asynccontextmanager
async def read_edit(request: Request) -> AsyncIterator[Form[EditBody]]:
    """The edit's fields and files.

    Raises:
        ClientLeft: it never came whole.
        InvalidForm, InvalidJson, JsonTooDeep: it cannot be read.
        MissingField, InvalidValue: a file is missing, or is none; a field is none of its kind.
        RequestValidationError: the body refuses its fields.
    """
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
