"""Whatever is asked wrongly gets the documented error, and leaves no row."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from serve.api.services import Services
from tests.serve.api.conftest import count_rows

PROMPT = {"prompt": "a red heart"}
BAD_PICTURES: list[tuple[dict[str, object], str, str]] = [
    ({}, "missing_field", "prompt"),
    ({"prompt": ""}, "invalid_value", "prompt"),
    ({"prompt": "  \n"}, "invalid_value", "prompt"),
    ({"prompt": 5}, "invalid_value", "prompt"),
    ({"prompt": "x" * 4001}, "invalid_value", "prompt"),
    ({"prompt": "a\x00b"}, "invalid_value", "prompt"),
    ({**PROMPT, "negative_prompt": "x" * 4001}, "invalid_value", "negative_prompt"),
    ({**PROMPT, "colour": "red"}, "unknown_field", "colour"),
    ({**PROMPT, "n": 0}, "invalid_value", "n"),
    ({**PROMPT, "n": 11}, "invalid_value", "n"),
    ({**PROMPT, "n": "2"}, "invalid_value", "n"),
    ({**PROMPT, "size": "0x64"}, "invalid_value", "size"),
    ({**PROMPT, "size": "64x65"}, "invalid_value", "size"),
    ({**PROMPT, "size": "big"}, "invalid_value", "size"),
    ({**PROMPT, "size": "4096x4096"}, "invalid_value", "size"),
    ({**PROMPT, "num_inference_steps": 0}, "invalid_value", "num_inference_steps"),
    ({**PROMPT, "num_inference_steps": 10**6}, "invalid_value", "num_inference_steps"),
    ({**PROMPT, "num_inference_steps": True}, "invalid_value", "num_inference_steps"),
    ({**PROMPT, "num_inference_steps": 4.5}, "invalid_value", "num_inference_steps"),
    ({**PROMPT, "guidance_scale": -1}, "invalid_value", "guidance_scale"),
    ({**PROMPT, "guidance_scale": 51}, "invalid_value", "guidance_scale"),
    ({**PROMPT, "guidance_scale": False}, "invalid_value", "guidance_scale"),
    ({**PROMPT, "seed": -1}, "invalid_value", "seed"),
    ({**PROMPT, "seed": 2**63 - 1}, "invalid_value", "seed"),
    ({**PROMPT, "seed": 2**70}, "invalid_value", "seed"),
    ({**PROMPT, "scheduler": "dice"}, "invalid_value", "scheduler"),
    ({**PROMPT, "scheduler": "flow_match_euler"}, "invalid_value", "scheduler"),
    ({**PROMPT, "output_format": "bmp"}, "invalid_value", "output_format"),
    (
        {**PROMPT, "output_format": "webp", "output_compression": 101},
        "invalid_value",
        "output_compression",
    ),
    ({**PROMPT, "output_compression": 50}, "invalid_value", "output_compression"),
    ({**PROMPT, "priority": 101}, "invalid_value", "priority"),
    ({**PROMPT, "deadline_s": 0}, "invalid_value", "deadline_s"),
    ({**PROMPT, "deadline_s": 1e9}, "invalid_value", "deadline_s"),
    ({**PROMPT, "model": "dall-e-9"}, "model_not_found", "model"),
]
BAD_GENERATIONS: list[tuple[dict[str, object], str, str]] = [
    ({**PROMPT, "response_format": "path"}, "invalid_value", "response_format"),
    ({**PROMPT, "background": "transparent"}, "invalid_value", "background"),
    ({**PROMPT, "stream": "yes"}, "invalid_value", "stream"),
    ({**PROMPT, "partial_images": 2}, "invalid_value", "partial_images"),
    ({**PROMPT, "quality": "best"}, "invalid_value", "quality"),
    ({**PROMPT, "width": 64}, "unknown_field", "width"),
]
BAD_JOBS: list[tuple[dict[str, object], str, str]] = [
    ({**PROMPT, "width": 0, "height": 64}, "invalid_value", "width"),
    ({**PROMPT, "width": 64, "height": -8}, "invalid_value", "height"),
    ({**PROMPT, "width": 64}, "invalid_value", "height"),
    ({**PROMPT, "width": 64, "height": 64, "size": "64x64"}, "invalid_value", "size"),
    ({**PROMPT, "quality": "high"}, "unknown_field", "quality"),
]
WRONG_PATHS = [
    ("GET", "/nowhere", 404),
    ("GET", "/v1/images/generations/x/y", 404),
    ("GET", "/v1/jobs/7", 422),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000", 404),
    ("DELETE", "/v1/jobs/00000000-0000-7000-8000-000000000000", 404),
    ("GET", "/v1/images/00000000-0000-7000-8000-000000000000", 404),
    ("GET", "/v1/images/00000000-0000-7000-8000-000000000000/original", 404),
    ("GET", "/v1/images/7", 400),
    ("GET", "/v1/jobs?limit=0", 422),
    ("GET", "/v1/jobs?limit=101", 422),
    ("GET", "/v1/jobs?after=x", 422),
    ("GET", "/v1/jobs?page=2", 422),
    ("GET", "/v1/images?limit=0", 400),
    ("PUT", "/v1/jobs", 405),
    ("DELETE", "/v1/images/generations", 405),
    ("GET", "/v1/models/other/name", 404),
]
JSON = {"Content-Type": "application/json"}
NOT_OBJECTS = [b"", b"[]", b"3", b"null", b'"red heart"']
BROKEN = [b"{", b"{'prompt': 1}", b'{"prompt": "a"} x', b"\xff\xfe"]


async def test_generations_refuse_in_openai_shape(
    client: httpx2.AsyncClient, services: Services
) -> None:
    for body, code, param in BAD_PICTURES + BAD_GENERATIONS:
        answer = await client.post("/v1/images/generations", json=body)

        assert answer.status_code == (404 if code == "model_not_found" else 400), body
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, body
        assert (error["type"], error["code"]) == ("invalid_request_error", code), body
        assert error["param"] == param, body
        assert param in error["message"], body
    assert await count_rows(services.database, "jobs") == 0


async def test_jobs_refuse_with_a_problem(client: httpx2.AsyncClient, services: Services) -> None:
    for body, code, param in BAD_PICTURES + BAD_JOBS:
        answer = await client.post("/v1/jobs", json=body)

        assert answer.status_code == (404 if code == "model_not_found" else 422), body
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "code", "param", "request_id"}
        assert problem["status"] == answer.status_code
        assert (problem["code"], problem["param"]) == (code, param), body
        assert param in problem["detail"], body
        assert problem["request_id"] == answer.headers["x-request-id"]
    assert await count_rows(services.database, "jobs") == 0


async def test_broken_json(client: httpx2.AsyncClient, services: Services) -> None:
    for path in ("/v1/jobs", "/v1/images/generations"):
        for body in BROKEN:
            answer = await client.post(path, content=body, headers=JSON)

            assert answer.status_code == 400, body
            told = answer.json()
            assert (told.get("error") or told)["code"] in ("invalid_json", "bad_request")
    assert await count_rows(services.database, "jobs") == 0


async def test_not_an_object(client: httpx2.AsyncClient) -> None:
    for body in NOT_OBJECTS:
        answer = await client.post("/v1/jobs", content=body, headers=JSON)

        assert answer.status_code == 422, body
        assert "JSON object" in answer.json()["detail"], body


async def test_what_json_should_not_hold(client: httpx2.AsyncClient, services: Services) -> None:
    for body in (
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": "a", "guidance_scale": Infinity}',
        b'{"prompt": "a", "guidance_scale": 1e999}',
        b'{"prompt": "a", "deadline_s": -Infinity}',
        b'{"prompt": "a", "\\ud800": 1}',
        b'{"prompt": "a", "model": "\\ud800"}',
    ):
        answer = await client.post("/v1/jobs", content=body, headers=JSON)

        assert answer.status_code in (404, 422), body
    assert await count_rows(services.database, "jobs") == 0


async def test_deep_and_endless_json(client: httpx2.AsyncClient) -> None:
    deep = await client.post("/v1/jobs", content=b"[" * 100_000, headers=JSON)
    long = await client.post("/v1/jobs", content=b"9" * 5_000, headers=JSON)

    assert (deep.status_code, long.status_code) == (400, 400)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
async def test_body_over_the_limit(client: httpx2.AsyncClient, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:  # without a Content-Length
        for _ in range(20):
            yield b" " * 100_000

    told = await client.post(path, content=b" " * (1024 * 1024 + 1), headers=JSON)
    untold = await client.post(path, content=chunks(), headers=JSON)

    for answer in (told, untold):
        assert answer.status_code == 413, answer.text
        error = answer.json().get("error") or answer.json()
        assert error["code"] == "body_too_large"
        assert answer.headers["x-request-id"]


async def test_insane_idempotency_keys(client: httpx2.AsyncClient) -> None:
    for name in ("", "two words", "x" * 256, "é"):
        answer = await client.post(
            "/v1/jobs", json=PROMPT, headers={b"Idempotency-Key": name.encode()}
        )

        assert answer.status_code == 422, name
        assert answer.json()["param"] == "Idempotency-Key"


async def test_every_error_has_its_shape(client: httpx2.AsyncClient) -> None:
    for method, path, status in WRONG_PATHS:
        answer = await client.request(method, path)

        assert answer.status_code == status, path
        assert answer.headers["x-request-id"]
        if path.startswith("/v1/images"):
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, path
        else:
            assert answer.headers["content-type"] == "application/problem+json", path
            assert answer.json()["status"] == status
        if status == 405:
            assert answer.headers["allow"]


async def test_failure_of_our_own_is_told_in_shape(
    app: FastAPI, anonymous: httpx2.AsyncClient
) -> None:
    @app.get("/v1/images/broken")
    async def broken() -> None:
        raise RuntimeError("a secret")

    app.router.routes.insert(0, app.router.routes.pop())
    answer = await anonymous.get("/v1/images/broken")

    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
