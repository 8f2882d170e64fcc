"""Keys at the door."""

from __future__ import annotations

import httpx2
import pytest

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


@pytest.mark.parametrize("path", ["/health", "/", "/openapi.json", "/metrics"])
async def test_open_to_all(anonymous: httpx2.AsyncClient, path: str) -> None:
    assert (await anonymous.get(path)).status_code == 200
