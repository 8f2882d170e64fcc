"""What the API tells of itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx2
import pytest

from serve.api.examples import examples, tags
from tests.serve.api.described import Json, described, faults, operations

ROUTES = {
    "/v1/images/generations": {"post"},
    "/v1/images/edits": {"post"},
    "/v1/images/variations": {"post"},
    "/v1/images": {"get"},
    "/v1/images/{image_id}": {"get", "patch", "delete"},
    "/v1/images/{image_id}/{variant}": {"get", "head"},
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get", "delete"},
    "/v1/jobs/{job_id}/images": {"delete"},
    "/v1/webhooks": {"get", "post"},
    "/v1/webhooks/{webhook_id}": {"get", "delete"},
    "/v1/webhooks/{webhook_id}/rotate": {"post"},
    "/v1/webhooks/{webhook_id}/deliveries": {"get"},
    "/v1/webhooks/deliveries/{delivery_id}/retry": {"post"},
    "/v1/tenants": {"get", "post"},
    "/v1/tenants/{tenant_id}": {"get", "patch"},
    "/v1/keys": {"get", "post"},
    "/v1/keys/{key_id}": {"delete"},
    "/v1/usage": {"get"},
    "/v1/jobs/{job_id}/events": {"get"},
    "/v1/events/tickets": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model_id}": {"get"},
    "/health": {"get"},
    "/ready": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def document() -> Json:
    return described()


def answers(operation: Json, *, failed: bool) -> list[tuple[str, Json]]:
    """Status and answer; "default" is a failure."""
    return [
        (status, answer)
        for status, answer in operation["responses"].items()
        if failed == (status == "default" or int(status) >= 400)
    ]


def shown(content: Json) -> list[Any]:
    """The values of a media type's examples."""
    if "example" in content:
        return [content["example"]]
    return [example["value"] for example in content.get("examples", {}).values()]


async def test_is_served_to_anyone(anonymous: httpx2.AsyncClient, document: Json) -> None:
    answer = await anonymous.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["paths"].keys() == document["paths"].keys()


def test_tells_every_route(document: Json) -> None:
    assert {path: set(verbs) for path, verbs in document["paths"].items()} == ROUTES


def test_is_of_openapi_3_1_and_names_its_licence(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["license"]["identifier"] == "Apache-2.0"


def test_every_operation_has_a_name_a_summary_and_a_described_tag(document: Json) -> None:
    names = Counter(operation["operationId"] for _, operation in operations(document))
    assert [name for name, count in names.items() if count > 1 or not name.isalnum()] == []
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    for path, operation in operations(document):
        assert operation["summary"], path
        assert operation["tags"], path
        assert set(operation["tags"]) <= described, path
    assert set(tags()) == {
        tag for _, operation in operations(document) for tag in operation["tags"]
    }


UNDESCRIBED = {"getJob", "getWebhook"}
"""Operations whose summary says it all."""


def test_every_operation_is_described(document: Json) -> None:
    lacking = {
        operation["operationId"]
        for _, operation in operations(document)
        if not operation.get("description")
    }
    assert lacking == UNDESCRIBED


def test_every_parameter_and_field_of_a_body_is_described(document: Json) -> None:
    for path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            told = parameter["in"] == "path" or parameter.get("description")
            assert told, (path, parameter["name"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = document["components"]["schemas"][content["schema"]["$ref"].split("/")[-1]]
            assert schema["additionalProperties"] is False, path
            for field, told in schema["properties"].items():
                assert told.get("description"), (path, field)


def test_every_error_has_an_example_in_the_shape_of_its_path(document: Json) -> None:
    for path, operation in operations(document):
        openai = path.startswith("/v1/images")
        name = operation["operationId"]
        for status, answer in answers(operation, failed=True):
            shape = "application/json" if openai else "application/problem+json"
            assert set(answer["content"]) == {shape}, (name, status)
            content = answer["content"][shape]
            assert shown(content), (name, status)
            for value in shown(content):
                assert faults(document, content["schema"], value) == [], (name, status)
                if not openai and status != "default":
                    assert str(value["status"]) == status, name


def test_every_request_and_success_has_an_example_true_to_its_schema(document: Json) -> None:
    for _, operation in operations(document):
        name = operation["operationId"]
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        for _, answer in answers(operation, failed=False):
            for media_type, content in answer.get("content", {}).items():
                if not media_type.startswith("image/"):  # pictures are not text
                    contents.append(content)
        for content in contents:
            assert shown(content), name
            for value in shown(content):
                assert faults(document, content.get("schema", {}), value) == [], name


def test_streamed_pictures_are_shown_as_they_are_described(document: Json) -> None:
    [operation] = [o for _, o in operations(document) if o["operationId"] == "generate"]
    stream = operation["responses"]["200"]["content"]["text/event-stream"]
    told = [line for line in stream["example"].splitlines() if line.startswith("data: ")]
    for schema, line in zip(stream["x-events"], told, strict=True):
        assert faults(document, schema, json.loads(line.removeprefix("data: "))) == []


def test_every_parameter_of_a_path_has_an_example_true_to_its_schema(document: Json) -> None:
    for _, operation in operations(document):
        name = operation["operationId"]
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                assert "example" in parameter, (name, parameter["name"])
            if "example" in parameter:
                assert faults(document, parameter["schema"], parameter["example"]) == [], name


def test_every_answer_names_its_headers(document: Json) -> None:
    for path, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"], path
            if status == "401":
                assert "WWW-Authenticate" in answer["headers"], path
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"], path


def test_v1_asks_for_a_key_and_says_what_any_route_may_answer(document: Json) -> None:
    schemes = set(document["components"]["securitySchemes"])
    for path, operation in operations(document):
        if path.startswith("/v1/"):
            assert {name for way in operation["security"] for name in way} == schemes
            assert {"401", "503", "default"} <= operation["responses"].keys(), path
        if "requestBody" in operation:
            assert {"400", "413"} <= operation["responses"].keys(), path


def test_no_example_is_left_over(document: Json) -> None:
    told = {operation["operationId"]: operation for _, operation in operations(document)}
    for name, example in examples().items():
        operation = told[name]
        assert set(example.parameters) <= {p["name"] for p in operation.get("parameters", ())}, name
        statuses = {int(status) for status in operation["responses"] if status != "default"}
        told_of = example.responses.keys() | example.streams.keys() | example.headers.keys()
        assert told_of <= statuses, name
        for code in {getattr(error, "code", None) for error in example.errors}:
            assert f'"{code}"'.replace('"', "'") in str(operation["responses"]), (name, code)
