"""The OpenAPI document: FastAPI's, with examples, headers, and what any route may answer."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from serve.access.scopes import InsufficientScope, Scope
from serve.api.examples import examples, tags
from serve.api.examples.errors import COMMON, INTERNAL
from serve.api.examples.example import Example
from serve.errors import ServiceError
from serve.http.documented import SCHEMAS
from serve.http.headers import HEADERS, headers_at
from serve.http.problem import Problem
from serve.http.problems import REQUEST_ID, headers_of, problem_of, told
from serve.openai.picture_event import CompletedImage, PartialImage

Json = dict[str, Any]
_REF = "#/components/headers/"
_SAFE = ("get", "head")


class DescribedAPI(FastAPI):
    """An app whose document tells more than its routes' signatures do."""

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
    components["headers"] = {name: header.told() for name, header in HEADERS.items()}
    shown, meanings = examples(), tags()
    used = dict.fromkeys(tag for *_, operation in operations(document) for tag in operation["tags"])
    document["tags"] = [{"name": tag, "description": meanings.get(tag, "")} for tag in used]
    for path, verb, operation in operations(document):
        example = shown.get(operation["operationId"], Example())
        _speak_3_1(operation)
        _expect(verb, operation)
        _show(path, operation, example)
    return document


def _schemas_beside() -> Json:
    """Those that routes name without being of their models."""
    models = [(model, "serialization") for model in (Problem, PartialImage, CompletedImage)]
    _, told = models_json_schema(models, ref_template=SCHEMAS + "{model}")  # type: ignore[arg-type]
    found: Json = told["$defs"]
    return found


def _speak_3_1(operation: Json) -> None:
    """FastAPI tells the events of a stream in a word of OpenAPI 3.2; AsyncAPI has their schemas."""
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            content.pop("itemSchema", None)


def _expect(verb: str, operation: Json) -> None:
    """Add the statuses that no route answers by itself."""
    answers = operation["responses"]
    invalid = "422" if "application/problem+json" in answers["default"]["content"] else "400"
    statuses = {"414", "431"}
    if operation.get("security"):
        statuses.add("503")
        if verb not in _SAFE:  # whatever changes something is counted
            statuses.add("429")
    if "requestBody" in operation:
        statuses |= {"400", "408", "413", invalid}
    if any(parameter["in"] != "path" for parameter in operation.get("parameters", ())):
        statuses.add(invalid)
    for status in statuses - answers.keys():
        phrase = HTTPStatus(int(status)).phrase
        answers[status] = {**copy.deepcopy(answers["default"]), "description": phrase}
    operation["responses"] = dict(sorted(answers.items()))  # "default" comes last


def _show(path: str, operation: Json, example: Example) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in example.parameters:
            parameter["example"] = example.parameters[parameter["name"]]
    bodies = operation.get("requestBody", {}).get("content", {})
    for media_type, content in bodies.items():
        either = len(bodies) > 1 and media_type == "application/json"
        requests = example.json_requests if either else example.requests
        content["examples"] = {
            name: {"summary": name, "value": body} for name, body in requests.items()
        }
    errors = _by_status(path, [*_scopes_lacking(operation), *example.errors])
    asks_key = "security" in operation
    for status, answer in operation["responses"].items():
        headers = {name: _header(name) for name in headers_at(status, asks_key=asks_key)}
        if status == "default":
            _show_errors(answer, path, [INTERNAL])
        elif int(status) >= HTTPStatus.BAD_REQUEST:
            _show_errors(answer, path, errors.get(status, ()))
            headers |= _headers_of(errors.get(status, ()))
        else:
            _show_success(answer, int(status), example)
            told = example.headers.get(int(status), {})
            headers |= {name: _header(name, value) for name, value in told.items()}
        answer["headers"] = headers


def _show_success(answer: Json, status: int, example: Example) -> None:
    for media_type, content in answer.get("content", {}).items():
        shown = example.streams if media_type == "text/event-stream" else example.responses
        if status in shown:
            content["example"] = shown[status]


def _show_errors(answer: Json, path: str, errors: Iterable[ServiceError | Problem]) -> None:
    shown: Json = {}
    seen: Counter[str] = Counter()
    for error in errors:
        problem = _problem(error)
        seen[problem.code] += 1
        times = seen[problem.code]
        name = problem.code if times == 1 else f"{problem.code}_{times}"
        shown[name] = {"summary": problem.title, "value": told(problem, path)[1]}
    for content in answer["content"].values():
        content["examples"] = shown


def _scopes_lacking(operation: Json) -> list[InsufficientScope]:
    """What a key without the operation's scope is told; each way to send a key names the same."""
    ways: list[dict[str, list[str]]] = operation.get("security", [])
    return [
        InsufficientScope(Scope(scope))
        for way in ways[:1]
        for each in way.values()
        for scope in each
    ]


def _by_status(
    path: str, own: Iterable[ServiceError | Problem]
) -> dict[str, list[ServiceError | Problem]]:
    """The operation's own errors, and the common ones where it has none of a status."""
    found: dict[str, list[ServiceError | Problem]] = {}
    for error in own:
        found.setdefault(_status(path, error), []).append(error)
    common: dict[str, list[ServiceError | Problem]] = {}
    for errors in COMMON.values():
        for error in errors:
            common.setdefault(_status(path, error), []).append(error)
    return common | found


def _status(path: str, error: ServiceError | Problem) -> str:
    return str(told(_problem(error), path)[0])


def _problem(error: ServiceError | Problem) -> Problem:
    problem = error if isinstance(error, Problem) else problem_of(error)
    return problem.model_copy(update={"request_id": HEADERS[REQUEST_ID].example})


def _headers_of(errors: Sequence[ServiceError | Problem]) -> dict[str, Json]:
    """Each as the first error that has it says; of errors that differ, none is sure to come."""
    told = [headers_of(error) if isinstance(error, ServiceError) else {} for error in errors]
    return {
        name: _header(name, value, sure=all(name in each for each in told))
        for headers in reversed(told)
        for name, value in headers.items()
    }


def _header(name: str, value: str | None = None, *, sure: bool = True) -> Json:
    header = HEADERS[name]
    if value in (None, header.example) and (sure or not header.always):
        return {"$ref": _REF + name}
    return {**header.told(value), "required": header.always and sure}
