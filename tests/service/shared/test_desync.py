"""What a stranger leaves on a connection is never taken for another client's request."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest

from tests.service.conftest import KEY, Service

PATIENCE_S = 20.0
ROUNDS = 10
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _DATA = 4, 1, 0
_END_HEADERS, _END_STREAM = 4, 1


BODIES = (30, 1_000, 2_000_000)
"""Bytes that are promised."""


@pytest.mark.parametrize("owed", BODIES)
def test_a_body_that_is_promised_and_never_sent(service: Service, owed: int) -> None:
    """Behind Serve's proxy; `test_haproxy` does the same."""
    ask_after_a_broken_promise(service, owed)


def ask_after_a_broken_promise(front: Service, owed: int) -> None:
    """RFC 9113, 8.1.1: the stream ends before the body's length is reached."""
    for i in range(ROUNDS):
        promise(front.port, owed)
        with socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE_S) as client:
            client.sendall(
                b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                + f"Authorization: Bearer {KEY}\r\nX-Request-ID: victim{i}\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert f"victim{i}".encode() in answer, answer


def promise(port: int, owed: int) -> None:
    """A stream without a key that promises ``owed`` bytes and ends after none."""
    head = b"".join(
        map(
            literal,
            (b":method", b":scheme", b":path", b":authority", b"content-length", b"content-type"),
            (b"POST", b"http", b"/v1/jobs", b"a", str(owed).encode(), b"application/json"),
        )
    )
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as stranger:
        stranger.sendall(_PREFACE + frame(_SETTINGS, 0, 0) + frame(_HEADERS, _END_HEADERS, 1, head))
        stranger.settimeout(1)
        with suppress(OSError):  # what speaks HTTP/1 alone may have hung up
            while (told := stranger.recv(65536)) and b"missing_api_key" not in told:
                pass
            stranger.sendall(frame(_DATA, _END_STREAM, 1))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113, 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541, 6.2.2: a field that no table has, of short strings."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
