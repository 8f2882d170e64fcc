"""HTTP to receivers: which URLs and addresses are allowed, and one POST of a delivery."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import httpcore2
import httpx2

from serve.observability.tracing import TraceContext
from serve.settings import WebhookSettings
from serve.webhooks.errors import InvalidUrl
from serve.webhooks.repository import Answer, Attempt
from serve.webhooks.signature import signed_headers

MAX_URL_CHARS = 2000
MOST_S = 24 * 3600.0
"""The longest that a Retry-After puts a delivery off."""
_MOST_ADDRESSES = 4
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_EXCLUDED = (
    ip_network("168.63.129.16/32"),  # Azure's own services, on an address that looks public
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
)


class NoPublicAddress(Exception):
    """The name has no address, or a private one; a tenant is not told which."""


class Outbound:
    """Posts attempts, each on a connection of its own.

    It follows no redirect, uses no proxy and reads no answer's body.
    """

    def __init__(self, settings: WebhookSettings, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` names the trusted authorities; None means the system's."""
        self._allow_private = settings.allow_private
        self._timeout_s = settings.timeout_s
        # Threads of its own: a name server that hangs must not stop this process's other look-ups.
        self._resolvers = ThreadPoolExecutor(2 * settings.concurrency, "webhook-dns")
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=_CheckedNetwork(self._resolvers, settings),
        )

    async def post(self, attempt: Attempt, trace: TraceContext | None = None) -> Answer:
        """Send it once, with the headers of the ``trace`` that the receiver may continue.

        Whatever a receiver does is an answer, never an exception.
        """
        try:
            url = checked_url(attempt.url, allow_private=self._allow_private)
            target = httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            )
            headers = {
                "Host": url.netloc.decode("ascii"),
                "Content-Type": "application/json",
                "User-Agent": "Sfumato-Webhooks",
                **(trace.headers if trace else {}),
                **signed_headers(
                    attempt.keys, attempt.message_id, attempt.claimed_at, attempt.body
                ),
            }
            async with (
                asyncio.timeout(self._timeout_s),
                self._pool.stream(
                    "POST", target, headers=list(headers.items()), content=attempt.body
                ) as response,
            ):
                return _answer(response)
        except InvalidUrl as error:  # the settings have changed since it was registered
            return Answer(None, error.message)
        except NoPublicAddress:
            return Answer(None, "The host has no public address.")
        except (TimeoutError, httpcore2.TimeoutException):
            return Answer(None, f"No answer within {self._timeout_s:g} s.")
        except httpcore2.NetworkError as error:
            return Answer(None, f"The connection failed: {error}"[:200])
        except httpcore2.ProtocolError:
            return Answer(None, "The answer was not HTTP.")

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._resolvers.shutdown(wait=False, cancel_futures=True)


def _answer(response: httpcore2.Response) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(status)
    if 300 <= status < 400:
        return Answer(
            status, f"The receiver answered {status}; redirects are not followed, name its new URL."
        )
    fields = (text for name, text in response.headers if name.lower() == b"retry-after")
    wait_s = retry_after_s(next(fields, b"").decode("latin-1"), datetime.now(UTC))
    sentence = f" It asks to wait {wait_s:.0f} s." if wait_s else ""
    return Answer(status, f"The receiver answered {status}.{sentence}", wait_s)


def retry_after_s(text: str, now: datetime) -> float:
    """The seconds of a `Retry-After` (RFC 9110, 10.2.3) from ``now`` on, at most `MOST_S`.

    A text that is neither a number of seconds nor a date is 0.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text), MOST_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), MOST_S)


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a name and connects to the very addresses that it checked.

    TLS and the Host header keep the name. DNS is not asked again between the check and the
    connection, so a second answer with another address changes nothing.
    """

    def __init__(self, resolvers: ThreadPoolExecutor, settings: WebhookSettings) -> None:
        self._resolvers = resolvers
        self._allow_private = settings.allow_private
        self._timeout_s = settings.timeout_s
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await asyncio.get_running_loop().run_in_executor(
                self._resolvers, _addresses, host, port
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that DNS cannot hold
            raise NoPublicAddress from error
        if not self._allow_private and not all(map(is_public, addresses)):
            raise NoPublicAddress
        timeout_s = self._timeout_s / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._tcp.connect_tcp(address, port, timeout=timeout_s)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # the next address may answer
        return await self._tcp.connect_tcp(addresses[-1], port, timeout=timeout_s)


def _addresses(host: str, port: int) -> list[str]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))[:_MOST_ADDRESSES]


def checked_url(url: str, *, allow_private: bool) -> httpx2.URL:
    """The URL, checked as far as that needs no DNS.

    Raises:
        InvalidUrl: the message says what is wrong with it.
    """
    schemes = ("https", "http") if allow_private else ("https",)
    if len(url) > MAX_URL_CHARS:
        raise _invalid(f"must have {MAX_URL_CHARS} characters at most")
    if not url.isprintable() or " " in url:
        raise _invalid("must hold no spaces or control characters")
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise _invalid("is not a URL") from error
    if parsed.scheme not in schemes or not parsed.host:
        raise _invalid(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if parsed.userinfo:
        raise _invalid("must hold no name and password; deliveries are signed instead")
    if parsed.fragment:
        raise _invalid("must hold no fragment")
    if parsed.port not in (None, 80, 443) and not 1024 <= parsed.port < 65536:
        raise _invalid("must have port 80, 443, or one from 1024 to 65535")
    if not allow_private and _names_private_address(parsed.host):
        raise _invalid("must lead to a public address")
    return parsed


def is_public(address: str) -> bool:
    """Whether anybody on the Internet could reach the numeric address."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _EXCLUDED)
    embedded = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
    if embedded is not None:  # a packet ends at this address
        return is_public(str(embedded))
    tunnel = ip.sixtofour is not None or ip.teredo is not None
    return ip in _UNICAST and ip.is_global and not tunnel


def _names_private_address(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:  # a name: every delivery resolves and checks it
        return False


def _invalid(reason: str) -> InvalidUrl:
    return InvalidUrl(f"url {reason}.", param="url")
