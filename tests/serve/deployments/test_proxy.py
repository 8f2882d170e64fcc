"""The layers around Serve's proxy, in Serve's own HTTP server, before Serve's own readers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import httpx2
import pytest
from ray.serve._private import http_util
from ray.serve._private.constants import (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
)
from ray.serve._private.proxy import HTTPProxy
from ray.serve._private.proxy_request_response import ASGIProxyRequest
from ray.serve.config import HTTPOptions
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from serve.cli.up import PROXY_LAYERS

OVERRIDES = {
    "X-Request-Timeout-Seconds": "-1",
    "x-request-disconnect-disabled": "?1",
    "serve_multiplexed_model_id": "theirs",
    "Serve-Multiplexed-Model-Id": "theirs",
    "x-session-id": "theirs",
    "X_Session_Id": "theirs",
    "x-serve-router-replica": "theirs",
}


UNKNOWN = "/unknown"
"""Serve does not find this path."""


class Routed:
    """Stands where Serve keeps its deployment handle, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}

    def options(self, **asked: str) -> Routed:
        self.asked |= asked
        return self


async def serve_reads(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what Serve makes of the request, by the functions that its proxy calls."""
    request = ASGIProxyRequest(scope, receive, send)
    headers = dict(request.headers)
    handle = Routed()
    _, request_id = HTTPProxy.setup_request_context_and_handle(
        cast(Any, None),
        app_name="sfumato",
        handle=cast(Any, handle),
        route="/",
        proxy_request=request,
        internal_request_id="1",
    )
    read = {
        "timeout_s": http_util.parse_request_timeout_header(headers, 30.0),
        "disconnect_disabled": http_util.parse_disconnect_disabled_header(headers),
        "session": http_util.parse_session_id_header(headers),
        "asked": handle.asked,
        "request_id": request_id,
        "scheme": scope["scheme"],
        "client": scope["client"][0],
        "names": [name.decode() for name, _ in scope["headers"]],
    }
    if scope["path"] == UNKNOWN:
        async for message in HTTPProxy.not_found_response(cast(Any, None), proxy_request=request):
            if isinstance(message, dict):  # the last one is a status, for Serve alone
                await send(message)
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(read)})
        await send({"type": "websocket.close", "code": 1000})
        return
    # Serve's proxy reads ahead, whatever the app does.
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = json.dumps({**read, "bytes": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of Serve's HTTP server, set up as `sfumato up` has each proxy do it."""
    monkeypatch.setattr(http_util, "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", PROXY_LAYERS)
    monkeypatch.setenv("SFUMATO_HTTP__MAX_BODY_BYTES", "2048")
    monkeypatch.setenv("SFUMATO_HTTP__MAX_UPLOAD_BYTES", "8192")
    monkeypatch.setenv("SFUMATO_HTTP__BODY_TIMEOUT_S", "0.5")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = http_util.configure_http_middlewares(HTTPOptions(host="127.0.0.1", port=port))
    running, server = await http_util.start_asgi_http_server(
        serve_reads, options, event_loop=asyncio.get_running_loop()
    )
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    await running


def test_these_are_the_names_that_serve_reads() -> None:
    assert {
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    } <= set(map(str.lower, OVERRIDES))


async def test_the_readers_would_obey_without_the_layers() -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in OVERRIDES.items()]
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [*headers, (b"x-request-id", b"1")],
        "client": ("127.0.0.1", 1),
        "scheme": "ws",
    }
    await serve_reads(scope, cast(Any, None), send)

    read = json.loads(said[1]["text"])
    assert (read["timeout_s"], read["disconnect_disabled"], read["session"]) == (
        None,
        True,
        "theirs",
    )
    assert read["asked"] == {"multiplexed_model_id": "theirs", "session_id": "theirs"}


async def test_a_client_overrides_nothing(proxy: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{proxy}/", headers={**OVERRIDES, "X-Kept": "1"})
    async with connect(f"ws://{proxy}/", additional_headers=OVERRIDES) as socket_:
        told = json.loads(await socket_.recv())

    for read in (answer.json(), told):
        assert read["timeout_s"] == 30.0
        assert read["disconnect_disabled"] is False
        assert (read["session"], read["asked"]) == ("", {})
        assert not set(read["names"]) & set(map(str.lower, OVERRIDES))
    assert "x-kept" in answer.json()["names"]


async def test_a_websocket_on_the_listeners_loop_hears_its_client_itself(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.deployments.proxy.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", False)
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{proxy}/")
    async with connect(f"ws://{proxy}/", additional_headers=OVERRIDES) as socket_:
        told = json.loads(await socket_.recv())

    assert answer.json()["disconnect_disabled"] is False
    assert told["disconnect_disabled"] is True


@pytest.mark.parametrize("given", [b"mine-1", b"two words", b"<i>", b"\xff", b"x" * 200, b""])
async def test_one_harmless_request_id(proxy: str, given: bytes) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{proxy}/", headers=[(b"X-Request-ID", given)])

    assert answer.status_code == 200
    (named,) = answer.headers.get_list("x-request-id")
    assert named == answer.json()["request_id"]
    assert (named == given.decode("latin-1")) == (given == b"mine-1")


async def test_before_the_application_is_there_the_service_starts(proxy: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{proxy}{UNKNOWN}")
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{proxy}{UNKNOWN}")

    assert (answer.status_code, answer.json()["code"]) == (503, "starting")
    assert answer.headers["retry-after"] == "2"
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"] == "2"


async def test_forwarding_headers_are_not_believed(proxy: str) -> None:
    spoofed = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    async with httpx2.AsyncClient() as client:
        read = (await client.get(f"http://{proxy}/", headers=spoofed)).json()

    assert (read["client"], read["scheme"]) == ("127.0.0.1", "http")


async def test_bodies_stop_at_the_proxy(proxy: str) -> None:
    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b" " * 1024

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    async with httpx2.AsyncClient(base_url=f"http://{proxy}") as client:
        fits = await client.post("/v1/jobs", content=b" " * 2048)
        told = await client.post("/v1/jobs", content=b" " * 2049)
        untold = await client.post("/v1/images/generations", content=chunks(3))
        upload = await client.post("/v1/images/edits", content=b" " * 8192, headers=form)
        longer = await client.post("/v1/images/edits", content=chunks(9), headers=form)
        no_form = await client.post("/v1/images/edits", content=b" " * 2049)

    assert (fits.json()["bytes"], upload.json()["bytes"]) == (2048, 8192)
    for answer in (told, untold, longer, no_form):
        assert answer.status_code == 413
        assert answer.headers["x-request-id"]
        assert (answer.json().get("error") or answer.json())["code"] == "body_too_large"
    assert told.headers["x-content-type-options"] == "nosniff"


async def test_a_body_that_dawdles(proxy: str) -> None:
    host, port = proxy.split(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, (host, int(port)))
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        await loop.sock_sendall(client, head)
        async with asyncio.timeout(5):
            trickling = asyncio.create_task(_trickle(client))
            said = await _read_to_the_end(client)  # the connection closes
            trickling.cancel()

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in said


async def _trickle(client: socket.socket) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.get_running_loop().sock_sendall(client, b" ")
            await asyncio.sleep(0.1)


async def _read_to_the_end(client: socket.socket) -> bytes:
    """All that came before the end, which is a reset where the server had not read all of ours.

    An asyncio stream would lose with the reset what it has not given out yet.
    """
    said = b""
    with suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(client, 65536):
            said += more
    return said
