"""HTTP to strangers: each request on a connection of its own, to an address that was checked."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpcore2

from serve.settings import WebhookSettings
from serve.webhooks.address import checked_url, is_public
from serve.webhooks.attempt import Answer, Attempt
from serve.webhooks.errors import InvalidUrl
from serve.webhooks.retry_after import retry_after_s
from serve.webhooks.signature import signed_headers

_MOST_ADDRESSES = 4


class NoPublicAddress(Exception):
    """The name leads nowhere, or somewhere private; a tenant is not told which."""


class Outbound:
    """Posts attempts. Redirects are not followed, no proxy is used, no answer's body is read."""

    def __init__(self, settings: WebhookSettings, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` says whom to trust; None is for the system's authorities."""
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

    async def post(self, attempt: Attempt) -> Answer:
        """Send it once. Whatever a receiver does is an answer, never an exception."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return _told(*await self._post(attempt))
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

    async def _post(self, attempt: Attempt) -> tuple[int, str]:
        """The answer's status, and its Retry-After."""
        url = checked_url(attempt.url, allow_private=self._allow_private)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": "Sfumato-Webhooks",
            **signed_headers(attempt.keys, attempt.message_id, attempt.claimed_at, attempt.body),
        }
        target = httpcore2.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        async with self._pool.stream(
            "POST", target, headers=list(headers.items()), content=attempt.body
        ) as response:
            asked = (text for name, text in response.headers if name.lower() == b"retry-after")
            return response.status, next(asked, b"").decode("latin-1")


def _told(status: int, retry_after: str) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    if 300 <= status < 400:
        return Answer(
            status, f"The receiver answered {status}; redirects are not followed, name its new URL."
        )
    wait_s = retry_after_s(retry_after, datetime.now(UTC))
    asks = f" It asks to wait {wait_s:.0f} s." if wait_s else ""
    return Answer(status, f"The receiver answered {status}.{asks}", wait_s)


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a name and connects to the very addresses that it checked.

    TLS and the Host header keep the name. DNS is not asked again between the check and the
    connection, so a name that changes its mind gains nothing.
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
        addresses = await self._resolve(host, port)
        if not self._allow_private and not all(map(is_public, addresses)):
            raise NoPublicAddress
        patience_s = self._timeout_s / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._tcp.connect_tcp(address, port, timeout=patience_s)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue  # the next one may be better
        return await self._tcp.connect_tcp(addresses[-1], port, timeout=patience_s)

    async def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._resolvers, _addresses, host, port
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that DNS cannot hold
            raise NoPublicAddress from error
        return found[:_MOST_ADDRESSES]


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
