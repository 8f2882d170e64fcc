"""Who may reach Ray's dashboard on this machine: whoever submits a job there runs code here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

import httpx2
import psutil

from serve.cli.target import url_of

_DASHBOARD = "ray/dashboard/dashboard.py"


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that is listened on."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        address = ip_address(self.host)
        # Python before 3.13 does not see that ::ffff:127.0.0.1 is.
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    @property
    def url(self) -> str:
        """Where it answers from this machine."""
        return url_of(self.host, self.port)


def dashboards() -> Iterator[Listener]:
    """What the dashboards that run on this machine listen on, as far as we may look.

    The dashboard serves Ray's job API on the same port. Its process tells Prometheus of itself on
    another, and where it is switched off on that alone.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(word.endswith(_DASHBOARD) for word in process.cmdline()):
                yield from (each for each in listeners(process) if not tells_metrics(each))


def listeners(process: psutil.Process) -> Iterator[Listener]:
    """The TCP ports that the process listens on."""
    for connection in process.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield Listener(connection.laddr.ip, connection.laddr.port)


def faults(found: Iterable[Listener]) -> list[str]:
    """A sentence for each that others may reach, or that asks for no token."""
    return [fault for listener in found for fault in _faults(listener)]


def tells_metrics(listener: Listener) -> bool:
    """Whether any path is answered by Prometheus' text format: such a port takes no job."""
    with suppress(httpx2.HTTPError):
        answer = httpx2.get(f"{listener.url}/api/version", timeout=3, trust_env=False)
        return answer.headers.get("content-type", "").startswith("text/plain; version=")
    return False


def _faults(listener: Listener) -> Iterator[str]:
    if not listener.loopback:
        yield f"it listens on {listener.host}:{listener.port}, which other machines may reach"
    for path in ("/api/jobs/", "/api/version"):
        with suppress(httpx2.HTTPError):  # whoever says nothing gives nothing away
            answer = httpx2.get(listener.url + path, timeout=3, trust_env=False)
            if not answer.is_client_error:
                yield f"{listener.url}{path} answers {answer.status_code} without a token"
