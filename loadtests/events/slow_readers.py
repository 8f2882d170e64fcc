"""What readers cost that shake hands, follow all jobs, and never read."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from loadtests.chaos.processes import Role, role_of
from loadtests.events.raw import frame, open_socket
from loadtests.events.service import Service, driven

_ROLES = (Role.HAPROXY, Role.PROXY, Role.INGRESS)
_SETTLE_S = 5.0
_WARM_UP_S = 20.0
_LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Cost:
    """Resident bytes of the service's proxy and ingress replicas, by process."""

    readers: int
    before: dict[str, int]
    most: dict[str, int]
    """The highest sum during the load, as it was then."""
    after: dict[str, int]

    def __str__(self) -> str:
        lines = [
            f"  {name:36} {before / 2**20:7.1f} MiB before"
            f" {self.most[name] / 2**20:7.1f} at most {self.after[name] / 2**20:7.1f} after"
            for name, before in sorted(self.before.items())
        ]
        base = sum(self.before.values())
        most, after = sum(self.most.values()) - base, sum(self.after.values()) - base
        lines.append(
            f"  {self.readers} readers cost {most / 2**20:.1f} MiB at most,"
            f" {after / 2**20:.1f} MiB at the end"
        )
        return "\n".join(lines)


async def cost(service: Service, readers: int, jobs_per_s: float, seconds: float) -> Cost:
    """Memory under ``seconds`` of load with so many readers that read nothing.

    The same load runs before without them, so that what it costs by itself is not counted.
    """
    processes = _processes(service)
    async with driven(service, jobs_per_s, steps=30):
        await asyncio.sleep(_WARM_UP_S)
    await asyncio.sleep(_SETTLE_S)
    before = most = _resident(processes)
    silent = [await asyncio.to_thread(_silent_reader, service) for _ in range(readers)]
    async with driven(service, jobs_per_s, steps=30) as made:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = _resident(processes)
            most = max(most, now, key=lambda sizes: sum(sizes.values()))
    print(f"  {len(made)} jobs meanwhile")  # noqa: T201
    for reader in silent:
        reader.close()
    return Cost(readers, before, most, now)


def _silent_reader(service: Service) -> socket.socket:
    """A connection with the smallest buffer that the kernel gives, so that little hides there."""
    reader = open_socket(service, receive_buffer=4096)
    reader.sendall(frame(b'{"type":"watch_all"}'))
    return reader


def _processes(service: Service) -> list[psutil.Process]:
    """The proxy that listens there, and the ingress replicas beside it."""
    port = urlsplit(service.url).port
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr
        if listens and listens.port == port:
            parents = psutil.Process(connection.pid).parents()
            raylet = next(parent for parent in parents if parent.name() == "raylet")
            family = raylet.children(recursive=True)
            return [each for each in family if role_of(each.cmdline()) in _ROLES]
    raise LookupError(f"No proxy of a service on this machine listens on port {port}.")


def _resident(processes: list[psutil.Process]) -> dict[str, int]:
    return {
        f"{role_of(process.cmdline())} {process.pid}": process.memory_info().rss
        for process in processes
    }
