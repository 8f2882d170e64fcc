"""What the API tells of itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx2
import pytest

from serve.api.about import TAGS
from serve.http.fields import StrictBody
from serve.jobs.schemas import JobEditBody
from serve.openai.schemas import EditBody, EditJson, VariationBody
from tests.serve.api.described import Json, described, faults, operations, resolved

ROUTES = {
    "/v1/images/generations": {"post"},
    "/v1/images/edits": {"post"},
    "/v1/images/variations": {"post"},
    "/v1/images/inspect": {"post"},
    "/v1/images/verify": {"post"},
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
    "/v1/operator/overview": {"get"},
    "/v1/albums": {"get", "post"},
    "/v1/albums/{album_id}": {"get", "patch", "delete"},
    "/v1/albums/{album_id}/images/{image_id}": {"put", "delete"},
    "/v1/edits": {"post"},
    "/v1/operator/models": {"get", "post"},
    "/v1/operator/models/{model}": {"patch", "delete"},
    "/v1/tenants": {"get", "post"},
    "/v1/tenants/{tenant_id}": {"get", "patch"},
    "/v1/keys": {"get", "post"},
    "/v1/keys/{key_id}": {"delete"},
    "/v1/trends": {"get"},
    "/v1/exhibition": {"get"},
    "/v1/usage": {"get"},
    "/v1/jobs/{job_id}/events": {"get"},
    "/v1/events/tickets": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model_id}": {"get"},
    "/v1/operator/models/{model}/loras/{name}": {"put", "delete"},
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


def operation_of(document: Json, name: str) -> Json:
    [operation] = [each for _, each in operations(document) if each["operationId"] == name]
    return operation


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
    assert set(TAGS) == {tag for _, operation in operations(document) for tag in operation["tags"]}


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
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = resolved(document, content["schema"])
            if kind == "application/octet-stream":
                continue
            assert schema["additionalProperties"] is False, path
            for field, told in schema["properties"].items():
                assert told.get("description"), (path, field)


@pytest.mark.parametrize(
    ("name", "body", "files"),
    [
        ("edit", EditBody, {"image", "mask", "control_image"}),
        ("submitEdit", JobEditBody, {"image", "mask", "control_image"}),
        ("vary", VariationBody, {"image", "control_image"}),
    ],
)
def test_forms_take_files_beside_the_fields_of_their_body(
    document: Json, name: str, body: type[StrictBody], files: set[str]
) -> None:
    told = operation_of(document, name)["requestBody"]
    assert told["required"] is True
    content = told["content"]["multipart/form-data"]
    fields = content["schema"]["properties"]
    assert {field for field, schema in fields.items() if schema.get("format") == "binary"} == files
    assert "image" in content["schema"]["required"]
    assert fields.keys() - files == body.model_fields.keys()


def test_edits_may_be_json(document: Json) -> None:
    content = operation_of(document, "edit")["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    schema = content["application/json"]["schema"]
    assert schema["properties"].keys() == EditJson.model_fields.keys()
    assert set(schema["required"]) == {"prompt", "images"}


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


@pytest.mark.parametrize(
    ("name", "call"), [("generate", "image_generation"), ("edit", "image_edit")]
)
def test_streamed_pictures_are_shown_as_they_are_described(
    document: Json, name: str, call: str
) -> None:
    stream = operation_of(document, name)["responses"]["200"]["content"]["text/event-stream"]
    lines = stream["example"].splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    for schema, event in zip(stream["x-events"], events, strict=True):
        assert faults(document, schema, event) == []
    types = [f"{call}.partial_image", f"{call}.completed"]
    assert [event["type"] for event in events] == types
    assert [line[7:] for line in lines if line.startswith("event: ")] == types


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
            for name, header in answer["headers"].items():
                told = resolved(document, header)
                assert faults(document, told["schema"], told["example"]) == [], (path, name)


def test_a_header_that_some_errors_lack_is_not_promised(document: Json) -> None:
    refused = {
        name: resolved(
            document,
            operation_of(document, name)["responses"]["403"]["headers"]["WWW-Authenticate"],
        )
        for name in ("getImage", "download")
    }
    assert [refused[name]["required"] for name in refused] == [True, False]
    for header in refused.values():
        assert header["example"] == 'Bearer error="insufficient_scope", scope="read"'


def test_every_key_is_told_which_scope_it_lacks(document: Json) -> None:
    for path, operation in operations(document):
        if "security" not in operation:
            assert "403" not in operation["responses"], path
            continue
        [[scope]] = {tuple(scopes) for way in operation["security"] for scopes in way.values()}
        [content] = operation["responses"]["403"]["content"].values()
        assert f"with the scope `{scope}`" in str(shown(content)[0]), path
        assert "insufficient_scope" in str(shown(content)[0]), path


def test_whatever_changes_something_may_be_asked_too_often(document: Json) -> None:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if path.startswith("/v1/"):
                counted = verb in ("post", "put", "patch", "delete")
                assert ("429" in operation["responses"]) == counted, (verb, path)


RATE_LIMITS = {"RateLimit", "RateLimit-Policy"}
BEFORE_A_TENANT_IS_KNOWN = {"401", "403", "414", "431", "default"}


def test_any_route_may_be_asked_with_too_much_before_the_body(document: Json) -> None:
    for path, operation in operations(document):
        assert {"414", "431"} <= operation["responses"].keys(), path


def test_whoever_has_a_key_is_told_what_is_left(document: Json) -> None:
    for path, operation in operations(document):
        for status, answer in operation["responses"].items():
            known = "security" in operation and status not in BEFORE_A_TENANT_IS_KNOWN
            told = RATE_LIMITS & answer["headers"].keys()
            assert told == (RATE_LIMITS if known else set()), (path, status)


def test_a_file_is_told_of_whole_in_part_and_unchanged(document: Json) -> None:
    answers = operation_of(document, "download")["responses"]
    assert {"200", "206", "304", "410", "416"} <= answers.keys()
    assert {status for status in answers if "Content-Range" in answers[status]["headers"]} == {
        "206",
        "416",
    }
    looked = operation_of(document, "lookAtFile")["responses"]
    assert "content" not in looked["200"]
    assert {"ETag", "Content-Length", "Accept-Ranges"} <= looked["200"]["headers"].keys()


def test_v1_asks_for_a_key_and_says_what_any_route_may_answer(document: Json) -> None:
    schemes = set(document["components"]["securitySchemes"])
    for path, operation in operations(document):
        if path.startswith("/v1/"):
            assert {name for way in operation["security"] for name in way} == schemes
            assert {"401", "503", "default"} <= operation["responses"].keys(), path
        if "requestBody" in operation:
            assert {"400", "413"} <= operation["responses"].keys(), path
