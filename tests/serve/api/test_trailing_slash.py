"""A slash at the end of a path changes nothing, and nobody is sent elsewhere."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from serve.api.services import Services
from tests.serve.api.refusals.uploads import file_of, picture
from tests.serve.api.test_events import address, say, told
from tests.serve.api.test_every_route import DOORS, IDS, NOBODY, ask

__all__ = ["address"]

PAGES = ("GET /", "GET /docs", "GET /operator", "GET /exhibition")
"""They send to themselves."""
NAMED = ("POST /v1/tenants", "POST /v1/albums", "POST /v1/operator/models")
"""The second time the name is taken."""


async def test_every_route(operator: httpx2.AsyncClient, subtests: pytest.Subtests) -> None:
    ids = {**dict.fromkeys(IDS, NOBODY), "variant": "original", "model_id": "flow", "model": "flow"}
    for route, door in DOORS.items():
        if route.startswith("WEB") or route in PAGES:
            continue
        with subtests.test(route):
            named = {**ids, "name": "reference.js" if "/docs" in route else "gallery.js"}
            without = await ask(operator, route, door, named)
            answer = await ask(operator, f"{route}/", door, named)
            if route in NAMED:
                assert (without.status_code, answer.status_code) == (201, 409)
            else:
                assert answer.status_code == without.status_code


async def test_a_post_keeps_its_body(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs/", json={"prompt": "a red heart", "seed": 7})

    assert answer.status_code == 202
    assert answer.json()["params"]["seed"] == 7
    refused = await client.post("/v1/images/generations/", json={"prompt": ""})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")


async def test_an_upload_may_be_as_large(client: httpx2.AsyncClient, services: Services) -> None:
    file = file_of(picture(1024, 1024))
    assert len(file) > services.settings.http.max_body_bytes
    files = {"image": file, "mask": b"no mask"}

    answer = await client.post("/v1/images/edits/", data={"prompt": "a"}, files=files)

    assert answer.json()["error"]["param"] == "mask"


async def test_one_slash_alone(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/jobs//")).status_code == 404
    assert (await client.get("/")).status_code == 200


async def test_the_root_of_a_prefix_stays(app: FastAPI) -> None:
    """Where a terminator serves it under a path, and says so."""
    transport = httpx2.ASGITransport(app=app, root_path="/pictures")
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client:
        assert (await client.get("/pictures/")).status_code == 200
        assert (await client.get("/pictures/health/")).status_code == 200


async def test_the_measure_names_the_route(client: httpx2.AsyncClient) -> None:
    await client.get("/v1/models/flow/")

    metrics = (await client.get("/metrics")).text
    assert 'route="/v1/models/{model_id}"' in metrics


async def test_the_socket(address: str, key: str) -> None:
    async with connect(f"{address}/") as events:
        await say(events, type="authenticate", key=key)
        assert (await told(events))["type"] == "authenticated"
