"""HEAD is answered as GET is, without the body, wherever GET is (RFC 9110, 9.1)."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from fastapi import FastAPI

from serve.api.services import Services
from tests.serve.api.described import described
from tests.serve.api.test_every_route import DOORS, NOBODY, routes_of, things

__all__ = ["things"]

VARYING = {"date", "x-request-id", "ratelimit"}


async def test_every_route(
    app: FastAPI,
    server: str,
    client: httpx2.AsyncClient,
    things: dict[str, str],
    subtests: pytest.Subtests,
) -> None:
    paths = sorted({route.removeprefix("GET ") for route in DOORS if route.startswith("GET ")})
    assert {f"GET {path}" for path in paths} == {
        route for route in routes_of(app) if route.startswith("GET ")
    }
    async with httpx2.AsyncClient(base_url=server, headers=client.headers) as http:
        for path in paths:
            with subtests.test(path):
                file = "reference.js" if path.startswith("/docs") else "gallery.js"
                url = path.format(**{**things, "name": file})
                head = await http.head(url, headers={"Accept-Encoding": "identity"})
                got = await _got(http, url)
                assert head.status_code == got.status_code
                assert head.content == b""
                assert _told(head) == _told(got)


async def _got(http: httpx2.AsyncClient, url: str) -> httpx2.Response:
    async with http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
        if not answer.headers["content-type"].startswith("text/event-stream"):
            await answer.aread()
    return answer


def _told(answer: httpx2.Response) -> dict[str, str]:
    unframed = VARYING | {"content-length"} if answer.url.path == "/metrics" else VARYING
    stream = answer.headers.get("content-type", "").startswith("text/event-stream")
    framing = {"content-length", "transfer-encoding", "x-accel-buffering"} if stream else set()
    return {
        name.lower(): value
        for name, value in answer.headers.items()
        if name.lower() not in unframed | framing
    }


async def test_what_is_refused_is_refused_alike(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    for path, status in ((f"/v1/jobs/{NOBODY}", 404), ("/v1/jobs?limit=0", 422), ("/x", 404)):
        assert (await client.head(path)).status_code == status
    assert (await anonymous.head("/v1/jobs")).status_code == 401
    for path in ("/v1/images/generations", "/v1/events/tickets"):
        answer = await client.head(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_no_stream_is_opened(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = (await client.post("/v1/jobs", json={"prompt": "a red heart"})).json()
    path = f"/v1/jobs/{job['id']}/events"

    def opened(_tenant: object) -> None:
        raise AssertionError

    monkeypatch.setattr(services.jobs.feeds, "open", opened)
    async with asyncio.timeout(5):
        answer = await client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    await client.delete(f"/v1/jobs/{job['id']}")
    assert (await client.head(path, headers={"Last-Event-ID": "2"})).status_code == 204


async def test_is_not_counted_as_a_change(client: httpx2.AsyncClient, services: Services) -> None:
    answer = await client.head("/v1/jobs")

    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers


def test_only_a_files_is_described() -> None:
    described_heads = [path for path, verbs in described()["paths"].items() if "head" in verbs]
    assert described_heads == ["/v1/images/{image_id}/{variant}"]


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("DELETE", "/web/gallery.js", "GET, HEAD"),
        ("POST", "/asyncapi.json", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PUT", f"/v1/jobs/{NOBODY}/events", "GET, HEAD"),
    ],
)
async def test_refused_verb_is_told_of_it(
    client: httpx2.AsyncClient, verb: str, path: str, allowed: str
) -> None:
    answer = await client.request(verb, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_openapi_document_too(anonymous: httpx2.AsyncClient) -> None:
    answer = await anonymous.post("/openapi.json")

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
