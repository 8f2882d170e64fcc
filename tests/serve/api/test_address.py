"""What the service tells of its own address, at the root and below a path."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.settings import HttpSettings
from tests.serve.api.refusals.uploads import upload

BASE = "https://pictures.example/art"


@asynccontextmanager
async def asking(
    services: Services, http: HttpSettings, root_path: str = ""
) -> AsyncIterator[httpx2.AsyncClient]:
    """As uvicorn has it, the path begins with the root path."""
    settings = services.settings.model_copy(update={"http": http})
    services = dataclasses.replace(open_services(settings), served=services.served)
    app = create_app(services)
    transport = httpx2.ASGITransport(app=app, root_path=root_path)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=f"http://sfumato{root_path}") as client,
    ):
        token, _ = await services.keys.create("first", "test", [Scope.OPERATOR])
        client.headers["X-API-Key"] = token
        yield client


@pytest.mark.parametrize(
    ("http", "root_path", "before", "server"),
    [
        (HttpSettings(), "", "", "/"),
        (HttpSettings(public_url=BASE), "", "/art", BASE),
        (HttpSettings(public_url=f"{BASE}/"), "", "/art", f"{BASE}/"),
        (HttpSettings(), "/art", "/art", "/art"),
    ],
    ids=["at the root", "public URL", "public URL with a slash", "root path"],
)
async def test_locations_and_documents_lead_back(
    services: Services, http: HttpSettings, root_path: str, before: str, server: str
) -> None:
    async with asking(services, http, root_path) as client:
        for path, body in (
            ("/v1/jobs", {"prompt": "a red heart"}),
            ("/v1/webhooks", {"url": "https://example.com/"}),
            ("/v1/tenants", {"name": "third"}),
        ):
            answer = await client.post(path, json=body)
            assert answer.headers["location"] == f"{before}{path}/{answer.json()['id']}"
        document = (await client.get("/openapi.json")).json()
        assert document["servers"][0]["url"] == server


async def test_a_root_path_changes_neither_limits_nor_the_shape_of_errors(
    services: Services,
) -> None:
    http = HttpSettings(max_body_bytes=1024, max_upload_bytes=2048)
    async with asking(services, http, "/art") as client:
        fits = await client.post("/v1/images/edits", **upload(lambda: bytes(1500))())
        too_large = await client.post("/v1/images/edits", **upload(lambda: bytes(4000))())
        elsewhere = await client.post("/v1/jobs", content=bytes(1500))

    assert (fits.status_code, fits.json()["error"]["code"]) == (400, "unsupported_image")
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "body_too_large")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (413, "body_too_large")
