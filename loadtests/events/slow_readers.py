"""What readers cost that shake hands, follow all jobs, and never read."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from loadtests.events.service import Service, driven

_TITLES = ("ray::ProxyActor", "ray::ServeReplica:sfumato:Ingress")
_SETTLE_S = 5.0
_WARM_UP_S = 20.0


@dataclass(frozen=True)
class Cost:
    """Resident bytes of the service's proxies and ingress replicas on this machine."""

    before: dict[str, int]
    after: dict[str, int]
    readers: int
    held: int
    """Bytes that reached the readers' own side, where the kernel keeps them."""

    def __str__(self) -> str:
        lines = [
            f"  {name:40} {before / 2**20:7.1f} MiB → {self.after[name] / 2**20:7.1f} MiB"
            for name, before in sorted(self.before.items())
        ]
        grown = sum(self.after.values()) - sum(self.before.values())
        return "\n".join([*lines, f"  {self.readers} readers cost {grown / 2**20:.1f} MiB in all"])


async def cost(service: Service, readers: int, jobs_per_s: float, seconds: float) -> Cost:
    """Memory before and after ``seconds`` of load with so many readers that read nothing.

    The same load runs before without them, so that what it costs by itself is not counted.
    """
    async with driven(service, jobs_per_s, steps=30):
        await asyncio.sleep(_WARM_UP_S)
    await asyncio.sleep(_SETTLE_S)
    before = _resident()
    silent = [await asyncio.to_thread(_silent_reader, service) for _ in range(readers)]
    async with driven(service, jobs_per_s, steps=30):
        await asyncio.sleep(seconds)
    after = _resident()
    held = sum(len(reader.recv(2**20, socket.MSG_PEEK | socket.MSG_DONTWAIT)) for reader in silent)
    for reader in silent:
        reader.close()
    return Cost(before, {name: after.get(name, 0) for name in before}, readers, held)


def _silent_reader(service: Service) -> socket.socket:
    """A connection with the smallest buffer that the kernel gives, so that little hides there."""
    url = urlsplit(service.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((url.hostname, url.port))
    key = base64.b64encode(os.urandom(16)).decode()
    reader.sendall(
        f"GET /v1/events HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {service.key}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += reader.recv(1)
    if b" 101 " not in answer:
        raise ConnectionError(f"The service refused the WebSocket: {answer!r}")
    text = b'{"type":"watch_all"}'
    # A final text frame, masked with zeros, which leave it as it is.
    reader.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    return reader


def _resident() -> dict[str, int]:
    found = {}
    for process in psutil.process_iter(["cmdline", "pid"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith(_TITLES):
            found[f"{title.split('(')[0].strip()} {process.pid}"] = process.memory_info().rss
    if not found:
        raise LookupError("No proxy or ingress of a service runs on this machine.")
    return found
