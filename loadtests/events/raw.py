"""WebSockets below the level of a client library, which would read, or wait."""

from __future__ import annotations

import base64
import os
import socket
from urllib.parse import urlsplit

from loadtests.events.service import Service


def open_socket(service: Service, receive_buffer: int | None = None) -> socket.socket:
    """A connection that has shaken hands; what it is told nobody reads.

    ``receive_buffer`` is in bytes, the kernel's own where left out. Raises ConnectionError where
    the service refuses.
    """
    url = urlsplit(service.url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((url.hostname, url.port))
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /v1/events HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {service.key}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer and (byte := connection.recv(1)):
        answer += byte
    if b" 101 " not in answer:
        raise ConnectionError(f"The service refused the WebSocket: {answer!r}")
    return connection


def frame(text: bytes) -> bytes:
    """A final text frame of up to 125 bytes, masked with zeros, which leave it as it is."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text
