"""The documented error answers of routes, for OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from serve.http.problem import OpenAIError

Responses = dict[int | str, dict[str, Any]]
SCHEMAS = "#/components/schemas/"


# Where a key is needed, its scope may be missing, too.
# "default" also keeps FastAPI from telling of a 422 in a shape that never comes.


def problems(*statuses: int) -> Responses:
    """problem+json under each status, and under any other."""
    shape = {"application/problem+json": {"schema": {"$ref": SCHEMAS + "Problem"}}}
    return {
        **{
            status: {"description": HTTPStatus(status).phrase, "content": shape}
            for status in _with_403(statuses)
        },
        "default": {"description": "Any other error", "content": shape},
    }


def openai_errors(*statuses: int) -> Responses:
    """OpenAI's error under each status, and under any other."""
    return {
        **{
            status: {"description": HTTPStatus(status).phrase, "model": OpenAIError}
            for status in _with_403(statuses)
        },
        "default": {"description": "Any other error", "model": OpenAIError},
    }


def picture_events(description: str) -> Responses:
    """Pictures as JSON, which the route's model tells of, or as a stream of events."""
    schemas = [{"$ref": SCHEMAS + name} for name in ("PartialImage", "CompletedImage")]
    content = {"text/event-stream": {"x-events": schemas}}
    return {200: {"description": description, "content": content}}


def _with_403(statuses: tuple[int, ...]) -> list[int]:
    return sorted({*statuses, 403} if 401 in statuses else statuses)


_FILES = {
    "image": "PNG, JPEG or WebP; `image[]` is the same. One picture is taken.",
    "mask": "PNG as large as the image; where its alpha is 0 the picture is edited.",
    "control_image": "PNG, JPEG or WebP: what `control` follows, in place of its `image`.",
}


def form_body(
    body: type[BaseModel], required: str, *optional: str, as_json: type[BaseModel] | None = None
) -> dict[str, Any]:
    """A multipart form of the body's fields and of files, which routes read by themselves.

    ``as_json`` is the same as JSON, where that is taken as well.
    """
    schema = _inlined(body.model_json_schema())
    files = {
        name: {"type": "string", "format": "binary", "description": _FILES[name]}
        for name in (required, *optional)
    }
    fields = {name: _in_a_form(told) for name, told in schema["properties"].items()}
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


def _in_a_form(field: dict[str, Any]) -> dict[str, Any]:
    """A field that is no plain value is sent as the text of its JSON."""
    kinds = field.get("anyOf", ())
    nested = [each for each in kinds if each.get("type") in ("array", "object")]
    if not nested:
        return field
    told = {"type": "string", "contentMediaType": "application/json", "contentSchema": nested[0]}
    return {**{name: field[name] for name in field if name not in ("anyOf", "default")}, **told}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Without references of its own, which would lead nowhere inside of an OpenAPI document."""
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(definitions[node["$ref"].rpartition("/")[2]])
        return {name: resolved(each) for name, each in node.items()}

    inlined: dict[str, Any] = resolved(schema)
    return inlined
