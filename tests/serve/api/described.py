"""The OpenAPI document as tests read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from serve.api.app import create_app
from serve.api.services import open_services
from serve.settings import Settings

Json = dict[str, Any]


def described() -> Json:
    """The document of an app that was never started, and has connected to nothing."""
    settings = Settings(database_url="postgresql://nowhere/none", redis_url="redis://nowhere")
    return create_app(open_services(settings)).openapi()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """Path and operation."""
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            yield path, operation


def resolved(document: Json, told: Json) -> Json:
    """What is told in place, or by a reference into the document's components."""
    if "$ref" not in told:
        return told
    _, _, kind, name = told["$ref"].split("/")
    component: Json = document["components"][kind][name]
    return component


def faults(document: Json, schema: Json, value: Any) -> list[str]:
    """What of the value is not as its schema, which may lead to components, says."""
    whole = {**schema, "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
