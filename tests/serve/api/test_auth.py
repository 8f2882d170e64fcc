"""Keys at the door."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from serve.access.auth import Reader
from serve.api.services import Services
from tests.serve.api.conftest import count_rows

GUARDED = [
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000"),
    ("DELETE", "/v1/jobs/00000000-0000-7000-8000-000000000000"),
    ("GET", "/v1/images"),
    ("GET", "/v1/images/00000000-0000-7000-8000-000000000000"),
    ("GET", "/v1/images/00000000-0000-7000-8000-000000000000/original"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/sfumato-embedded"),
]


HEADERS = [
    {},
    {"Authorization": "Bearer sfm_" + "x" * 43},
    {"Authorization": "Basic dTpw"},
    {"Authorization": "Bearer"},
    {"X-API-Key": "wrong"},
    {"X-API-Key": "x" * 9999},
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_no_way_in(
    anonymous: httpx2.AsyncClient, services: Services, method: str, path: str
) -> None:
    body = {"prompt": "a red heart"} if method == "POST" else None
    for headers in HEADERS:
        answer = await anonymous.request(method, path, headers=headers, json=body)

        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        if path.startswith("/v1/images"):
            assert answer.json()["error"]["type"] == "authentication_error"
        else:
            assert answer.json()["code"] in ("missing_api_key", "invalid_api_key")
    assert await count_rows(services.database, "jobs") == 0


async def test_either_header_opens(anonymous: httpx2.AsyncClient, key: str) -> None:
    for headers in ({"Authorization": f"bearer {key}"}, {"X-API-Key": key}):
        answer = await anonymous.get("/v1/models", headers=headers)
        assert answer.status_code == 200


async def test_revoked_key_is_shut_out_at_once(
    anonymous: httpx2.AsyncClient, services: Services
) -> None:
    token, kept = await services.keys.create("first", "short-lived")
    assert (await anonymous.get("/v1/models", headers={"X-API-Key": token})).status_code == 200

    await services.keys.revoke(kept.id)

    assert (await anonymous.get("/v1/models", headers={"X-API-Key": token})).status_code == 401


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/jobs", "application/json"),
        ("/v1/images/generations", "text/plain"),
        ("/v1/images/edits", "multipart/form-data; boundary=x"),
    ],
)
@pytest.mark.parametrize("key", ["", "X-API-Key: wrong\r\n"])
async def test_a_strangers_body_is_not_waited_for(
    server: str, path: str, content_type: str, key: str
) -> None:
    """It never comes, and would be waited for for a minute."""
    address = urlsplit(server)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\n{key}"
    writer.write(f"{head}Content-Type: {content_type}\r\nContent-Length: 1000\r\n\r\n".encode())

    async with asyncio.timeout(10):
        answer = await reader.readline()
    writer.close()

    assert answer.split()[1] == b"401"


async def test_a_request_looks_its_key_up_once(
    anonymous: httpx2.AsyncClient, key: str, services: Services
) -> None:
    asked: list[str] = []
    event.listen(
        services.database.engine.sync_engine,
        "before_cursor_execute",
        lambda *told: asked.append(str(told[2])),
    )

    answer = await anonymous.post("/v1/jobs", json={}, headers={"X-API-Key": key})

    assert answer.status_code == 422
    assert len([statement for statement in asked if "api_keys" in statement]) == 1


async def test_a_route_without_the_guard_lets_nobody_in(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    @app.get("/unguarded")
    async def unguarded(caller: Reader) -> None:
        raise AssertionError

    app.router.routes.insert(0, app.router.routes.pop())
    assert (await client.get("/unguarded")).json()["code"] == "internal_error"


@pytest.mark.parametrize("path", ["/health", "/", "/openapi.json", "/metrics"])
async def test_open_to_all(anonymous: httpx2.AsyncClient, path: str) -> None:
    assert (await anonymous.get(path)).status_code == 200
