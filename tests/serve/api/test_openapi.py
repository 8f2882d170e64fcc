"""What the API tells of itself."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

ROUTES = {
    "/v1/images/generations": {"post"},
    "/v1/images/edits": {"post"},
    "/v1/images/variations": {"post"},
    "/v1/images": {"get"},
    "/v1/images/{image_id}": {"get"},
    "/v1/images/{image_id}/{variant}": {"get"},
    "/v1/jobs": {"get", "post"},
    "/v1/jobs/{job_id}": {"get", "delete"},
    "/v1/webhooks": {"get", "post"},
    "/v1/webhooks/{webhook_id}": {"get", "delete"},
    "/v1/webhooks/{webhook_id}/rotate": {"post"},
    "/v1/webhooks/{webhook_id}/deliveries": {"get"},
    "/v1/webhooks/deliveries/{delivery_id}/retry": {"post"},
    "/v1/jobs/{job_id}/events": {"get"},
    "/v1/events/tickets": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model_id}": {"get"},
    "/health": {"get"},
    "/ready": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture
async def document(anonymous: httpx2.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await anonymous.get("/openapi.json")).json()
    return told


def test_tells_every_route(document: dict[str, Any]) -> None:
    assert {path: set(verbs) for path, verbs in document["paths"].items()} == ROUTES


def test_every_operation_tells_its_purpose_and_its_errors(document: dict[str, Any]) -> None:
    for path, verbs in document["paths"].items():
        openai = path.startswith("/v1/images")
        for operation in verbs.values():
            assert operation["summary"], path
            assert operation["tags"], path
            for status, answer in operation["responses"].items():
                if status == "default" or int(status) >= 400:
                    shape = "application/json" if openai else "application/problem+json"
                    assert set(answer["content"]) == {shape}, (path, status)
            if path.startswith("/v1/"):
                assert "401" in operation["responses"], path
                assert operation["security"], path


def test_bodies_take_no_other_fields(document: dict[str, Any]) -> None:
    for name in ("JobBody", "GenerationBody"):
        schema = document["components"]["schemas"][name]
        assert schema["additionalProperties"] is False
        assert schema["required"] == ["prompt"]
        for field, told in schema["properties"].items():
            if name == "JobBody":
                assert told["description"], field
    for path in ("/v1/images/edits", "/v1/images/variations"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        form = content["multipart/form-data"]["schema"]
        assert form["additionalProperties"] is False
        assert form["properties"]["image"]["format"] == "binary"
        assert "$ref" not in str(form)
