"""Files beside fields that are as strict as those of a JSON body: a multipart form, or JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, NamedTuple, TypeVar, get_origin

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from serve.http.errors import ClientLeft, InvalidForm, InvalidValue, JsonTooDeep, MissingField
from serve.http.fields import is_left_out, plain_kinds, printable
from serve.http.json_body import MAX_DEPTH, deeper_than

_MOST_FILES = 17  # OpenAI's most images, and a mask; more are refused as a form
_MOST_FIELDS = 64
_LONGEST_FIELD = 256 * 1024
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_SWITCH = TypeAdapter(bool)  # as in an address: `True`, `1` and `on` as well

Body = TypeVar("Body", bound=BaseModel)


class Upload(NamedTuple):
    """A file that came in, and the field that it came in."""

    file: BinaryIO
    param: str


@dataclass(frozen=True, slots=True)
class Form(Generic[Body]):
    """``files`` by field; of a form they lie on disk beyond a megabyte, until it is left."""

    body: Body
    files: dict[str, Upload]


@asynccontextmanager
async def read_form(
    request: Request, body: type[Body], *, required: str, optional: Sequence[str] = ()
) -> AsyncIterator[Form[Body]]:
    """The form's fields as a ``body``, and one file each of the fields so named.

    Raises:
        ClientLeft: it never came whole.
        InvalidForm: it is no multipart form, or has too much in it.
        MissingField: the required file is not there.
        InvalidValue: a file where a field is due, or the reverse; a field twice; no number.
        RequestValidationError: the body refuses its fields.
    """
    form = await _parsed(request)
    try:
        values, files = _sorted(form, body, (required, *optional))
        if required not in files:
            raise MissingField(f"{required}: send a file of this name.", param=required)
        uploads = {name: Upload(file.file, name) for name, file in files.items()}
        yield Form(checked(body, values), uploads)
    finally:
        await form.close()


def checked(body: type[Body], values: Any) -> Body:
    """The values as a ``body``.

    Raises:
        RequestValidationError: they are none.
    """
    try:
        return body.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from error


async def _parsed(request: Request) -> FormData:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InvalidForm("Send the picture as Content-Type: multipart/form-data.")
    try:
        return await request.form(
            max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD
        )
    except ClientDisconnect as error:
        raise ClientLeft("The client left before its picture had come.") from error
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise InvalidForm(f"The form cannot be read: {error.detail}") from error


def _sorted(
    form: FormData, body: type[BaseModel], file_fields: Sequence[str]
) -> tuple[dict[str, Any], dict[str, UploadFile]]:
    """What is a field, and what is a file."""
    values: dict[str, Any] = {}
    files: dict[str, UploadFile] = {}
    for field, sent in form.multi_items():
        name = field.removesuffix("[]")
        if _left_out(body, field, sent, is_file=name in file_fields):
            continue
        if name in file_fields:
            if isinstance(sent, str):
                raise InvalidValue(
                    f"{name}: send a file; addresses of pictures are not fetched.", param=name
                )
            if name in files:
                raise InvalidValue(
                    f"{name}: one picture is taken, and several were sent.", param=name
                )
            files[name] = sent
            continue
        label = printable(field, 100)
        if not isinstance(sent, str):
            raise InvalidValue(f"{label}: this field takes no file.", param=label)
        if field in values:
            raise InvalidValue(f"{label}: this field was sent twice.", param=label)
        known = body.model_fields.get(field)
        values[field] = (
            sent if known is None else _value(field, plain_kinds(known.annotation), sent)
        )
    return values, files


def _left_out(body: type[BaseModel], field: str, sent: str | UploadFile, *, is_file: bool) -> bool:
    """Browsers send a file input that was left empty as a file without a name and a byte.

    What is required is not in there either way, and is refused for that.
    """
    if not isinstance(sent, str):
        known = is_file or field in body.model_fields
        return known and not sent.filename and not sent.size
    if is_file:
        return is_left_out(sent, None)
    known_field = body.model_fields.get(field)
    if known_field is None or known_field.is_required():
        return False
    return is_left_out(sent, known_field.annotation)


def _value(field: str, kinds: set[Any], text: str) -> Any:
    """The text as what the field takes; JSON would tell a number from a text by itself."""
    if int in kinds:
        if not _INTEGER.fullmatch(text):
            raise InvalidValue(f"{field} must be a whole number.", param=field)
        return int(text)
    if float in kinds:
        if not _NUMBER.fullmatch(text):
            raise InvalidValue(f"{field} must be a number.", param=field)
        return float(text)
    if bool in kinds:
        try:
            return _SWITCH.validate_python(text)
        except ValidationError as error:
            raise InvalidValue(f"{field} must be `true` or `false`.", param=field) from error
    if any(get_origin(kind) is list or _is_body(kind) for kind in kinds):
        return _json(field, text)
    return text


def _is_body(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _json(field: str, text: str) -> Any:
    if deeper_than(MAX_DEPTH, text.encode(errors="replace")):
        raise JsonTooDeep(f"{field}: the JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidValue(f"{field} must be JSON: {error}.", param=field) from error
