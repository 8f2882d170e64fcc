"""Tenants and keys over HTTP."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from serve.access.scopes import Scope
from serve.api.services import Services
from tests.serve.api.conftest import client_of

UNSET = {
    "requests_per_minute": None,
    "gpu_seconds_per_minute": None,
    "gpu_seconds_burst": None,
    "gpu_seconds_per_month": None,
    "withhold_prompts": None,
}


async def test_a_tenant_and_its_first_key(
    app: FastAPI, operator: httpx2.AsyncClient, services: Services
) -> None:
    made = await operator.post("/v1/tenants", json={"name": "studio", "weight": 2})
    tenant = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/tenants/{tenant['id']}")
    assert (tenant["name"], tenant["weight"], tenant["limits"]) == ("studio", 2, UNSET)
    assert (await operator.get(f"/v1/tenants/{tenant['id']}")).json() == tenant

    answer = await operator.post(
        "/v1/keys", json={"name": "first", "scopes": ["admin"], "tenant_id": tenant["id"]}
    )
    key = answer.json()

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    async with client_of(app, key["key"]) as studio:
        [listed] = (await studio.get("/v1/keys")).json()["data"]
    assert listed == {name: value for name, value in key.items() if name != "key"}
    assert key["key"].startswith(key["prefix"])
    assert len(key["key"]) == 47
    assert (await services.keys.authenticate(key["key"])).tenant_id == UUID(tenant["id"])


async def test_changes(operator: httpx2.AsyncClient) -> None:
    tenant = (await operator.post("/v1/tenants", json={"name": "studio"})).json()
    path = f"/v1/tenants/{tenant['id']}"

    for change, weight, limits in (
        ({"weight": 3}, 3, {}),
        ({"limits": {"gpu_seconds_per_month": 100}}, 3, {"gpu_seconds_per_month": 100}),
        (
            {"limits": {"requests_per_minute": 0}},
            3,
            {"gpu_seconds_per_month": 100, "requests_per_minute": 0},
        ),
        ({"limits": {"gpu_seconds_per_month": None}}, 3, {"requests_per_minute": 0}),
        ({}, 3, {"requests_per_minute": 0}),
    ):
        answer = await operator.patch(path, json=change)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["weight"], answer.json()["limits"]) == (weight, {**UNSET, **limits})
    assert (await operator.get(path)).json() == answer.json()


async def test_refusals(operator: httpx2.AsyncClient) -> None:
    await operator.post("/v1/tenants", json={"name": "studio"})
    for path, body, status, code in (
        ("/v1/tenants", {"name": "studio"}, 409, "tenant_exists"),
        ("/v1/tenants", {"name": ""}, 422, "invalid_value"),
        ("/v1/tenants", {"name": "a\x00b"}, 422, "invalid_value"),
        ("/v1/tenants", {"name": "x" * 101}, 422, "invalid_value"),
        ("/v1/tenants", {"name": "x", "weight": -1}, 422, "invalid_value"),
        ("/v1/tenants", {"name": "x", "limits": {"requests_per_minute": -1}}, 422, "invalid_value"),
        ("/v1/tenants", {"name": "x", "limits": {"colour": 1}}, 422, "unknown_field"),
        ("/v1/keys", {"name": ""}, 422, "invalid_value"),
        ("/v1/keys", {"name": "x", "scopes": []}, 422, "invalid_value"),
        ("/v1/keys", {"name": "x", "scopes": ["root"]}, 422, "invalid_value"),
        ("/v1/keys", {"name": "x", "expires_in_s": 0}, 422, "invalid_value"),
        ("/v1/keys", {"name": "x", "expires_in_s": 1e12}, 422, "invalid_value"),
        ("/v1/keys", {"name": "x", "tenant_id": "7"}, 422, "invalid_value"),
    ):
        answer = await operator.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
    assert len((await operator.get("/v1/tenants")).json()["data"]) == 2


@pytest.mark.parametrize("path", ["/v1/tenants", "/v1/keys"])
async def test_page_by_page(operator: httpx2.AsyncClient, path: str) -> None:
    made = [(await operator.post(path, json={"name": f"{n}"})).json()["id"] for n in range(3)]

    first = (await operator.get(path, params={"limit": 2})).json()
    second = (await operator.get(path, params={"limit": 2, "after": first["next"]})).json()

    listed = [entry["id"] for entry in first["data"] + second["data"]]
    assert listed[:3] == made[::-1]
    assert len(listed) == 4  # the operator's own, too
    assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)


async def test_an_admin_makes_no_operator_and_revokes_none(
    app: FastAPI, operator: httpx2.AsyncClient, services: Services
) -> None:
    token, own = await services.keys.create("default", "admin", [Scope.ADMIN])
    async with client_of(app, token) as admin:
        made = await admin.post("/v1/keys", json={"name": "more", "scopes": ["read", "operator"]})
        keys = (await admin.get("/v1/keys")).json()["data"]
        [operators] = [key["id"] for key in keys if key["scopes"] == ["operator"]]
        revoked = await admin.delete(f"/v1/keys/{operators}")
        own_end = await admin.delete(f"/v1/keys/{own.id}")
        after = await admin.get("/v1/keys")

    assert [answer.status_code for answer in (made, revoked)] == [403, 403]
    assert made.json()["code"] == "insufficient_scope"
    assert (own_end.status_code, after.status_code) == (204, 401)
    assert (await operator.get("/v1/keys")).status_code == 200
    assert (await operator.delete(f"/v1/keys/{own.id}")).status_code == 204  # harmless


async def test_a_key_ends_when_it_was_said_to(
    app: FastAPI, client: httpx2.AsyncClient, services: Services
) -> None:
    key = (await client.post("/v1/keys", json={"name": "brief", "expires_in_s": 2})).json()
    async with client_of(app, key["key"]) as brief:
        assert (await brief.get("/v1/models")).status_code == 200
        principal = await services.keys.authenticate(key["key"])
        await asyncio.sleep(2.05)
        ended = await brief.get("/v1/models")

    assert (ended.status_code, ended.json()["code"]) == (401, "invalid_api_key")
    with pytest.raises(Exception, match="not valid any more"):
        await services.keys.confirm(principal)
    assert key["expires_at"] > key["created_at"]
