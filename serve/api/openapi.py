"""The OpenAPI document: FastAPI's, with examples, headers, and what any route may answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from serve.access.auth import MissingKey
from serve.access.keys import InvalidKey
from serve.access.rate_limit import RateLimitExceeded
from serve.access.scopes import InsufficientScope, Scope
from serve.api.asyncapi import life_of_a_job
from serve.api.examples import example, merged, request_examples
from serve.database import DatabaseUnavailable
from serve.http.documented import HEADERS, SCHEMAS, Failure, error_examples, header
from serve.http.layers import HEADERS_TOO_LARGE, URI_TOO_LONG, too_large, too_slow
from serve.http.problems import INTERNAL_ERROR, REQUEST_ID, Problem, speaks_openai
from serve.openai.schemas import CompletedImage, PartialImage

Json = dict[str, Any]
_SAFE = ("get", "head")
_BEFORE_A_TENANT_IS_KNOWN = ("401", "403", "414", "431", "default")


def _invalid(param: str, fault: str) -> Problem:
    return Problem(
        title="Invalid request",
        status=422,
        detail=f"{param}: {fault}",
        code="invalid_value",
        param=param,
    )


_INVALID_JSON = Problem(
    title="Invalid request",
    status=400,
    detail="The body is not valid JSON: Expecting value at 11.",
    code="invalid_json",
)
_INVALID_ID = _invalid(
    "job_id",
    "Input should be a valid UUID, invalid length: expected length 32 for simple format, found 4",
)
_INVALID_FIELD = _invalid("n", "Input should be a valid integer")
_INVALID_QUERY = _invalid("limit", "Input should be less than or equal to 100")
_COMMON: dict[str, list[Failure | Problem]] = {
    "401": [
        MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`."),
        InvalidKey("This API key is not valid."),
    ],
    "408": [too_slow(60)],
    "413": [too_large(1024 * 1024)],
    "414": [URI_TOO_LONG],
    "429": [RateLimitExceeded(RateLimitExceeded.example)],
    "431": [HEADERS_TOO_LARGE],
    "503": [DatabaseUnavailable("The database does not answer.")],
    "default": [INTERNAL_ERROR],
}
"""The errors that any route may answer with, where it has none of its own with that status."""


class DescribedAPI(FastAPI):
    """An app whose document says more than its routes' signatures do."""

    def openapi(self) -> Json:
        if self.openapi_schema is None:
            self.openapi_schema = _described(super().openapi())
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """The name of the route's function, as clients' generators like it: `submitJob`."""
    first, *others = route.name.split("_")
    return first + "".join(word.capitalize() for word in others)


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, verb and operation."""
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def _described(document: Json) -> Json:
    components = document["components"]
    components["schemas"] |= _schemas_beside()
    components["headers"] = {name: header.described() for name, header in HEADERS.items()}
    for path, verb, operation in operations(document):
        _restore_examples(operation)
        _add_common_answers(path, verb, operation)
        _add_examples(operation, components["schemas"])
        _add_errors(path, operation)
        _add_headers(operation)
    return document


def _restore_examples(operation: Json) -> None:
    """Routes write their examples as text, since FastAPI would leave out what is null."""
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            for word in ("example", "examples"):
                if f"x-{word}" in content:
                    content[word] = orjson.loads(content.pop(f"x-{word}"))


def _schemas_beside() -> Json:
    """Those that routes name without being of their models."""
    models = [(model, "serialization") for model in (Problem, PartialImage, CompletedImage)]
    _, schema = models_json_schema(models, ref_template=SCHEMAS + "{model}")  # type: ignore[arg-type]
    found: Json = schema["$defs"]
    return found


def _add_common_answers(path: str, verb: str, operation: Json) -> None:
    """Add the statuses that no route answers by itself."""
    answers = operation["responses"]
    openai = speaks_openai(path)
    invalid = "400" if openai else "422"
    statuses = {"414", "431"}
    if operation.get("security"):
        statuses |= {"401", "403", "503"}
        if verb not in _SAFE:  # whatever changes something is counted
            statuses.add("429")
    if "requestBody" in operation:
        statuses |= {"400", "408", "413", invalid}
    for parameter in operation.get("parameters", ()):
        # Under /v1/images a name that is no UUID leads to other routes.
        is_id = parameter["schema"].get("format") == "uuid" and not openai
        if parameter["in"] != "path" or is_id:
            statuses.add(invalid)
    for status in statuses - answers.keys():
        phrase = HTTPStatus(int(status)).phrase
        answers[status] = {**copy.deepcopy(answers["default"]), "description": phrase}
    operation["responses"] = dict(sorted(answers.items()))  # "default" comes last


def _add_examples(operation: Json, schemas: Json) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path" or "examples" in parameter["schema"]:
            value = example(parameter["schema"], schemas, parameter["name"])
            parameter["example"] = value
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "example" not in content:
            content["examples"] = request_examples(content["schema"], schemas)
    for status, answer in operation["responses"].items():
        if status < "400":
            for media_type, content in answer.get("content", {}).items():
                _add_success(media_type, content, schemas)


def _add_success(media_type: str, content: Json, schemas: Json) -> None:
    # FastAPI describes the events of a stream in a word of OpenAPI 3.2; AsyncAPI has their schemas.
    content.pop("itemSchema", None)
    if media_type == "application/json":
        made = example(content["schema"], schemas)
        content["example"] = merged(made, content.get("example", {}))
    elif "x-events" in content:
        events = [example(each, schemas) for each in content["x-events"]]
        for event in events:
            event["type"] = event["type"].replace("image_generation", content["example"])
        content["example"] = _stream(events)
    elif media_type == "text/event-stream":
        content["example"] = _stream(life_of_a_job())


def _stream(events: Iterable[Json]) -> str:
    return "".join(
        f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n"
        + (f"id: {event['seq']}\n\n" if "seq" in event else "\n")
        for event in events
    )


def _add_errors(path: str, operation: Json) -> None:
    """Add examples of the errors that any route may answer with."""
    openai = speaks_openai(path)
    invalid: list[Failure | Problem] = [_INVALID_QUERY]
    if "requestBody" in operation:
        invalid = [_INVALID_FIELD]
    elif all(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        invalid = [_INVALID_ID]
    common: dict[str, list[Failure | Problem]] = {
        **_COMMON,
        "422": invalid,
        "400": [_INVALID_JSON],
    }
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        common["413"] = [too_large(64 * 1024 * 1024)]
    if openai:
        common["400"] = [_INVALID_JSON, *invalid] if "requestBody" in operation else invalid
    for status, answer in operation["responses"].items():
        if status < "400":
            continue
        for content in answer["content"].values():
            own = content.get("examples", {})
            if status == "403":
                lacking = _insufficient_scope(operation)
                content["examples"] = error_examples([lacking], openai=openai) | own
                answer["headers"] = {
                    name: header(name, value, sure=not own)
                    for name, value in lacking.headers.items()
                }
            elif not own:
                content["examples"] = error_examples(common[status], openai=openai)


def _insufficient_scope(operation: Json) -> InsufficientScope:
    """What a key without the operation's scope gets; each way to send a key names the same."""
    [[scope]] = operation["security"][0].values()
    return InsufficientScope(Scope(scope))


def _add_headers(operation: Json) -> None:
    """The headers of every answer of a status, beside those that its route names."""
    for status, answer in operation["responses"].items():
        names = [REQUEST_ID]
        if status == "401":
            names.append("WWW-Authenticate")
        if status in ("429", "503"):
            names.append("Retry-After")
        if "security" in operation and status not in _BEFORE_A_TENANT_IS_KNOWN:
            names += ["RateLimit-Policy", "RateLimit"]
        answer["headers"] = {name: header(name) for name in names} | answer.get("headers", {})
