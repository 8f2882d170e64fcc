"""A real uvicorn whose heads are bounded, and clients that never come to the end of one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serve.deployments.listener import MAX_HEAD_BYTES, BoundedHead, BoundedSocket

SHORT_S = 0.4
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length, for `/slow` late."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SHORT_S)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr("serve.deployments.listener.HEAD_TIMEOUT_S", SHORT_S)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        counted,
        lifespan="off",
        log_config=None,
        http=BoundedHead,
        ws=BoundedSocket,
        timeout_keep_alive=5,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await running
    listener.close()


async def answer(port: int, *pieces: bytes, pause_s: float = SHORT_S / 3) -> bytes:
    """All that comes until the server closes, while the pieces go out one by one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def dribble() -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)

    sending = asyncio.create_task(dribble())
    async with asyncio.timeout(20):
        told = await reader.read()
    sending.cancel()
    writer.close()
    return told


async def test_a_head_that_does_not_end_is_408(port: int) -> None:
    told = await answer(port, b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"X: y\r\n"] * 100)
    assert told.startswith(b"HTTP/1.1 408 ")
    assert told.endswith(b"The head did not come in time.")


async def test_blank_lines_are_no_head(port: int) -> None:
    assert (await answer(port, *[b"\r\n"] * 100)).startswith(b"HTTP/1.1 408 ")


async def test_who_says_nothing_is_left(port: int) -> None:
    assert await answer(port) == b""


async def test_a_further_head_is_bounded_as_well(port: int) -> None:
    told = await answer(port, REQUEST, b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 100)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in told


async def test_a_head_that_is_too_long_is_431(port: int) -> None:
    lines = [b"X: %s\r\n" % (b"y" * 8000)] * (MAX_HEAD_BYTES // 8000 + 1)
    told = await answer(port, b"GET / HTTP/1.1\r\n", *lines, pause_s=0)
    assert told.startswith(b"HTTP/1.1 431 ")


async def test_bodies_and_answers_may_take_longer(port: int) -> None:
    head = b"POST /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
    told = await answer(port, head, *[b"x"] * 9)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.endswith(b"\r\n\r\n9")


async def test_a_head_that_waits_for_an_answer_spoils_none(port: int) -> None:
    """The second one is begun while the first is answered."""
    slow = REQUEST.replace(b"GET /", b"GET /slow")
    told = await answer(port, slow + b"GET / HTTP/1.1\r\n")
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in told


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n",
    ],
)
async def test_an_upgrade_that_is_no_handshake_is_400(port: int, head: bytes) -> None:
    upgrade = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    told = await answer(port, head + upgrade + key + b"0123456789")
    assert told.startswith(b"HTTP/1.1 400 ")
