"""What browsers are told of every answer, and which pages may read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from serve.api.app import create_app
from serve.api.services import Services
from serve.http.problems import SECURITY_HEADERS
from serve.settings import HttpSettings
from tests.serve.api.drawing import Desk

GALLERY = "https://gallery.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Origin": GALLERY}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/v1/models"),
        ("GET", "/v1/images"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("PUT", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/images/generations"),
    ],
)
async def test_every_answer_has_them(client: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)

    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_a_route_may_know_better(client: httpx2.AsyncClient, services: Services) -> None:
    await client.post("/v1/jobs", json={"prompt": "a red heart"})
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    picture = (await client.get("/v1/images")).json()["data"][0]["id"]

    page = await client.get("/")
    file = await client.get(f"/v1/images/{picture}/original")

    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert "immutable" in file.headers["cache-control"]
    assert file.headers["cross-origin-resource-policy"] == "cross-origin"
    for answer in (page, file):
        assert answer.headers["x-frame-options"] == "DENY"
        assert len(answer.headers.get_list("x-content-type-options")) == 1


async def test_no_page_reads_without_being_allowed(client: httpx2.AsyncClient) -> None:
    asked = await client.options("/v1/jobs", headers=PREFLIGHT)
    answer = await client.get("/v1/models", headers={"Origin": GALLERY})

    assert asked.status_code == 405
    assert answer.status_code == 200
    for told in (asked, answer):
        assert not [name for name in told.headers if name.startswith("access-control-")]


@pytest.fixture
async def opened(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app that one page may use."""
    http = HttpSettings(allowed_origins=(GALLERY,))
    app = create_app(
        replace(services, settings=services.settings.model_copy(update={"http": http}))
    )
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client,
    ):
        yield client


@pytest.mark.parametrize(
    "header",
    ["Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID", "Content-Type", "Range"],
)
async def test_an_allowed_page_may_ask(opened: httpx2.AsyncClient, header: str) -> None:
    headers = {**PREFLIGHT, "Access-Control-Request-Headers": header}
    answer = await opened.options("/v1/jobs", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == GALLERY
    assert header.lower() in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers


async def test_an_allowed_page_reads_even_refusals(opened: httpx2.AsyncClient) -> None:
    long = b" " * 2_000_000
    for answer in (
        await opened.get("/health", headers={"Origin": GALLERY}),
        await opened.get("/v1/jobs", headers={"Origin": GALLERY}),
        await opened.post("/v1/jobs", content=long, headers={"Origin": GALLERY}),
    ):
        assert answer.headers["access-control-allow-origin"] == GALLERY
        shown = answer.headers["access-control-expose-headers"]
        assert {"X-Request-ID", "Location", "Retry-After", "X-Job-ID"} <= set(shown.split(", "))
        assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", ["https://evil.example", f"{GALLERY}.evil.example", "null"])
async def test_other_pages_stay_outside(opened: httpx2.AsyncClient, origin: str) -> None:
    asked = await opened.options("/v1/jobs", headers={**PREFLIGHT, "Origin": origin})
    answer = await opened.get("/health", headers={"Origin": origin})

    assert asked.status_code == 400
    assert "access-control-allow-origin" not in {*asked.headers, *answer.headers}
