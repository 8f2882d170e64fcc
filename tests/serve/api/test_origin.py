"""Which origins are the same: a scheme's default port is no port."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
from starlette.requests import HTTPConnection

from serve.api.app import create_app
from serve.api.services import Services
from serve.http.address import may_connect, plain_origin
from serve.settings import HttpSettings


def asked(host: str | None, origin: str | None) -> HTTPConnection:
    sent = {"host": host, "origin": origin}
    headers = [(name.encode(), text.encode()) for name, text in sent.items() if text is not None]
    return HTTPConnection({"type": "websocket", "headers": headers})


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("art.example", "https://art.example"),
        ("art.example:443", "https://art.example"),
        ("art.example", "https://art.example:443"),
        ("art.example:443", "https://art.example:443"),
        ("art.example:80", "http://art.example"),
        ("art.example", "http://art.example:80"),
        ("ART.example", "HTTPS://Art.Example:443"),
        ("art.example:8443", "https://art.example:8443"),
        ("[::1]:443", "https://[::1]"),
        ("art.example", None),
    ],
)
def test_the_same(host: str, origin: str | None) -> None:
    assert may_connect(asked(host, origin), ())


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("art.example", "https://evil.example"),
        ("art.example:8443", "https://art.example:9443"),
        ("art.example:8443", "https://art.example"),
        ("art.example:80", "https://art.example"),
        ("art.example:443", "http://art.example"),
        ("art.example", "https://art.example:80"),
        ("art.example", "https://art.example:4430"),
        ("art.example4:43", "https://art.example"),
        ("[::1]", "https://[::1"),
        ("art.example", "https://art.example:443:443"),
        ("art.example", "null"),
        ("art.example", ""),
        ("", ""),
        ("", "https://"),
        ("", "null"),
        (None, "https://:443"),
        (None, "null"),
    ],
)
def test_another(host: str | None, origin: str) -> None:
    assert not may_connect(asked(host, origin), ())


@pytest.mark.parametrize("allowed", ["https://app.example", "https://app.example:443"])
@pytest.mark.parametrize("origin", ["https://app.example", "https://app.example:443"])
async def test_allowed_ones_too(services: Services, allowed: str, origin: str) -> None:
    http = HttpSettings(allowed_origins=(allowed,))
    assert may_connect(asked("sfumato", origin), http.allowed_origins)
    assert not may_connect(asked("sfumato", "http://app.example"), http.allowed_origins)

    settings = services.settings.model_copy(update={"http": http})
    app = create_app(replace(services, settings=settings))
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client,
    ):
        answer = await client.get("/health", headers={"Origin": origin})
        other = await client.get("/health", headers={"Origin": "https://app.example:444"})
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in other.headers


def test_written_as_browsers_do() -> None:
    assert plain_origin("HTTPS://App.Example:443") == "https://app.example"
    assert plain_origin("http://app.example:443") == "http://app.example:443"
    assert plain_origin("null") == "null"
