"""A real uvicorn whose WebSockets are bounded, and clients that send what they should not."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from serve.deployments.listener import BURST_FRAMES, MAX_MESSAGE_BYTES, BoundedSocket


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(BoundedSocket, "most_per_address", 3)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, lifespan="off", log_config=None, ws=BoundedSocket)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[1]
    server.should_exit = True
    await running
    listener.close()


async def test_messages_pass_uncompressed(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}") as client:
        assert not client.protocol.extensions
        for text in ("short", "x" * MAX_MESSAGE_BYTES):
            await client.send(text)
            assert await client.recv() == text


async def test_a_message_that_is_too_long_ends_while_it_arrives(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}") as client:
        await client.send(["x" * (MAX_MESSAGE_BYTES // 2)] * 2 + ["x"])
        await client.wait_closed()
        assert client.close_code == 1009


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [(Opcode.CONT, b""), (Opcode.CONT, b"x"), (Opcode.PING, b""), (Opcode.PONG, b"x")],
)
async def test_a_flood_of_frames_ends_at_once(port: int, opcode: Opcode, payload: bytes) -> None:
    """Whoever else is there hardly waits for it."""
    _, writer = await opened(port)
    if opcode is Opcode.CONT:
        writer.write(frame(Opcode.TEXT, b"", last=False))
    flood = frame(opcode, payload, last=opcode is not Opcode.CONT)
    writer.write(flood * 20 * BURST_FRAMES)
    async with asyncio.timeout(5), connect(f"ws://127.0.0.1:{port}") as other:
        await other.send("hello")
        assert await other.recv() == "hello"
        await only(1)
    writer.close()


async def test_bytes_without_end_are_not_kept(port: int) -> None:
    _, writer = await opened(port)
    for _ in range(400):
        writer.write(frame(Opcode.TEXT, b"x" * 60_000))
    async with asyncio.timeout(5):
        await only(0)
    writer.close()


async def test_who_sent_too_much_is_told_so(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}") as client:
        for _ in range(BURST_FRAMES + 10):
            await client.pong()
        await asyncio.sleep(0.1)  # they are counted
        await client.pong()  # whoever has spent all is closed with the next
        await client.wait_closed()
        assert client.close_code == 1008


async def test_what_comes_slowly_may_go_on(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}") as client:
        until = time.monotonic() + 1.5
        sent = 0
        while time.monotonic() < until:
            await client.send("still there")
            assert await client.recv() == "still there"
            sent += 1
            await asyncio.sleep(0.012)
        assert sent > 20


async def test_an_address_has_so_many_and_no_more(port: int) -> None:
    clients = [await connect(f"ws://127.0.0.1:{port}") for _ in range(3)]
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{port}")
    assert refused.value.response.status_code == 503
    await clients.pop().close()
    await only(2)
    clients.append(await connect(f"ws://127.0.0.1:{port}"))
    for client in clients:
        await client.close()
    await only(0)
    assert not BoundedSocket._connections


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def frame(opcode: Opcode, payload: bytes, *, last: bool = True) -> bytes:
    """RFC 6455, 5.2, with a mask of zeros."""
    head = bytes([(0x80 if last else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + bytes(4) + payload
    return head + bytes([0x80 | 126]) + struct.pack(">H", len(payload)) + bytes(4) + payload


async def only(connections: int) -> None:
    """Until so many are left."""
    while BoundedSocket._connections["127.0.0.1"] > connections:
        await asyncio.sleep(0.01)
