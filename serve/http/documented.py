"""What routes say in the OpenAPI document beside their signatures: errors, headers and forms."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from serve.errors import ServiceError
from serve.http.problems import (
    REQUEST_ID,
    OpenAIError,
    Problem,
    problem_of,
    status_and_body,
)
from serve.storage import StorageUnavailable

Json = dict[str, Any]
Responses = dict[int | str, Json]
Failure = ServiceError | StorageUnavailable
Errors = tuple[type[Failure] | Failure, ...]
SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Header:
    """``always``: on every answer of a status that names it."""

    description: str
    example: str
    always: bool = False
    integer: bool = False

    def described(self, example: str | None = None) -> Json:
        value = self.example if example is None else example
        return {
            "description": self.description,
            "required": self.always,
            "schema": {"type": "integer", "minimum": 0} if self.integer else {"type": "string"},
            "example": int(value) if self.integer else value,
        }


HEADERS = {
    REQUEST_ID: Header(
        "This request's name in the log: the one that was sent, if it has 1 to 128 letters,"
        " digits, `.`, `_` or `-`; else a new one.",
        "5f0d3a4be1c94e0f8a4e1d7b9c2a6f31",
        always=True,
    ),
    "WWW-Authenticate": Header("How to authenticate.", "Bearer", always=True),
    "Retry-After": Header("Seconds after which to ask again.", "2", integer=True),
    "RateLimit-Policy": Header(
        "The tenant's limits: `q` at once, and as many again in `w` seconds, of requests or of"
        " what `qu` names. Only where there are any.",
        '"requests";q=120;w=60, "gpu-seconds";q=60;w=60;qu="gpu-seconds"',
    ),
    "RateLimit": Header(
        "Of each limit, `r` are left, and in `t` seconds all will be.",
        '"requests";r=119;t=1, "gpu-seconds";r=52;t=8',
    ),
    "Location": Header("Path of what was made.", "/v1/jobs", always=True),
    "ETag": Header("Names the content; send it as `If-None-Match`.", '"…"', always=True),
    "Cache-Control": Header("How long the answer may be kept.", "no-store"),
    "Accept-Ranges": Header("In what units a part may be asked for.", "bytes", always=True),
    "Content-Range": Header(
        "Which bytes these are, and of how many; `bytes */6184` where none of them is there.",
        "bytes 0-1023/6184",
        always=True,
    ),
    "Content-Length": Header("Bytes of the content.", "6184", integer=True),
    "Content-Disposition": Header(
        "Whether browsers show or save the file, and its name.",
        'inline; filename="a-red-heart-7.png"',
    ),
    "X-Job-ID": Header(
        "The job that was waited for; look at `/v1/jobs/{id}`.",
        "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60",
    ),
    "X-Should-Retry": Header(
        "`false` where asking again would only bring the same; OpenAI's clients heed it.", "false"
    ),
}


def header(name: str, example: str | None = None, *, sure: bool = True) -> Json:
    """The header in place of an answer; ``sure`` is false where some of these answers lack it."""
    known = HEADERS[name]
    if example in (None, known.example) and (sure or not known.always):
        return {"$ref": f"#/components/headers/{name}"}
    return {**known.described(example), "required": known.always and sure}


def success(status: int, headers: tuple[str, ...] = (), example: Json | None = None) -> Responses:
    """Headers of the answer, and where it differs from the example of its model."""
    content = {"application/json": {"x-example": json.dumps(example)}} if example else {}
    return {status: {"headers": {name: header(name) for name in headers}, "content": content}}


def problems(*errors: type[Failure] | Failure) -> Responses:
    """The route's own errors as problem+json, each with an example.

    `serve.api.openapi` adds the errors that any route may answer with. "default" also keeps
    FastAPI from describing a 422 in a shape that never comes.
    """
    return _answers(errors, openai=False)


def openai_errors(*errors: type[Failure] | Failure) -> Responses:
    """The same in OpenAI's shape."""
    return _answers(errors, openai=True)


def error_examples(errors: Sequence[Failure | Problem], *, openai: bool) -> Json:
    """The errors' bodies by their codes."""
    examples: Json = {}
    times: Counter[str] = Counter()
    for error in errors:
        problem = error if isinstance(error, Problem) else problem_of(error)
        problem = problem.model_copy(update={"request_id": HEADERS[REQUEST_ID].example})
        times[problem.code] += 1
        number = f"_{times[problem.code]}" if times[problem.code] > 1 else ""
        _, body = status_and_body(problem, openai=openai)
        examples[problem.code + number] = {"summary": problem.title, "value": body}
    return examples


def _answers(errors: Errors, *, openai: bool) -> Responses:
    by_status: dict[int, list[Failure]] = {}
    for each in errors:
        error = _example(each) if isinstance(each, type) else each
        status, _ = status_and_body(problem_of(error), openai=openai)
        by_status.setdefault(status, []).append(error)
    answers: Responses = {
        status: {
            "description": HTTPStatus(status).phrase,
            "headers": _headers(found),
            **_shape(error_examples(found, openai=openai), openai=openai),
        }
        for status, found in by_status.items()
    }
    return {**answers, "default": {"description": "Any other error", **_shape({}, openai=openai)}}


def _example(error: type[Failure]) -> Failure:
    if issubclass(error, ServiceError):
        return error(error.example or f"{error.title}.")
    return error("It does not answer.")


def _headers(errors: Sequence[Failure]) -> Json:
    """Each as the first error that has it says; of errors that differ, none is sure to come."""
    sent = [error.headers if isinstance(error, ServiceError) else {} for error in errors]
    return {
        name: header(name, value, sure=all(name in each for each in sent))
        for headers in reversed(sent)
        for name, value in headers.items()
    }


def _shape(examples: Json, *, openai: bool) -> Json:
    content: Json = {"x-examples": json.dumps(examples)} if examples else {}
    if openai:
        return {"model": OpenAIError, "content": {"application/json": content}}
    schema = {"$ref": SCHEMAS + "Problem"}
    return {"content": {"application/problem+json": {"schema": schema, **content}}}


def picture_events(call: str, description: str) -> Responses:
    """Pictures as JSON, as the route's model says, or as a stream of the call's events."""
    schemas = [{"$ref": SCHEMAS + name} for name in ("PartialImage", "CompletedImage")]
    content = {"text/event-stream": {"x-events": schemas, "example": call}}
    return {200: {"description": description, "content": content}}


_FILES = {
    "image": "PNG, JPEG or WebP; `image[]` is the same. One picture is taken.",
    "mask": "PNG as large as the image; where its alpha is 0 the picture is edited.",
    "control_image": "PNG, JPEG or WebP: what `control` follows, in place of its `image`.",
}


def form_body(
    body: type[BaseModel], required: str, *optional: str, as_json: type[BaseModel] | None = None
) -> Json:
    """A multipart form of the body's fields and of files, which routes read by themselves.

    ``as_json`` is the same as JSON, where that is taken as well.
    """
    schema = _inlined(body.model_json_schema())
    files = {name: _file(name) for name in (required, *optional)}
    fields = {name: _in_a_form(field) for name, field in schema["properties"].items()}
    schema["properties"] = {**files, **fields}
    schema["required"] = [required, *schema.get("required", [])]
    content = {"multipart/form-data": {"schema": schema}}
    if as_json is not None:
        content["application/json"] = {"schema": _inlined(as_json.model_json_schema())}
    return {
        "requestBody": {
            "required": True,
            "description": "`@heart.png` stands for that file's bytes, as in curl's `--form`.",
            "content": content,
        }
    }


def _file(name: str) -> Json:
    described = {"type": "string", "format": "binary", "description": _FILES[name]}
    return {**described, "examples": ["@heart.png" if name == "image" else f"@{name}.png"]}


def _in_a_form(field: Json) -> Json:
    """A field that is no plain value is sent as the text of its JSON."""
    kinds = field.get("anyOf", ())
    nested = [each for each in kinds if each.get("type") in ("array", "object")]
    if not nested:
        return field
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": nested[0]}
    if "examples" in field:
        text["examples"] = [json.dumps(example) for example in field["examples"]]
    kept = {name: field[name] for name in field if name not in ("anyOf", "default", "examples")}
    return {**kept, **text}


def _inlined(schema: Json) -> Json:
    """Without references of its own, which would lead nowhere inside of an OpenAPI document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            rest = {name: value for name, value in node.items() if name != "$ref"}
            return {**resolved(definitions[node["$ref"].rpartition("/")[2]]), **rest}
        return {name: resolved(each) for name, each in node.items()}

    inlined: Json = resolved(schema)
    return inlined
