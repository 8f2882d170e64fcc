"""Which pages may open a WebSocket: browsers, unlike with fetch, ask nobody before they do."""

from __future__ import annotations

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def plain_origin(origin: str) -> str:
    """The origin as browsers send it: in small letters, without its scheme's default port."""
    scheme, separator, host = origin.lower().partition("://")
    return f"{scheme}{separator}{_without_default(host, scheme)}"


def may_connect(connection: HTTPConnection, allowed: Collection[str]) -> bool:
    """Whether the request comes from no page, from one of this host, or from an allowed origin.

    The scheme of this host is not compared, because TLS may end before us: a port that is the
    default one of the origin's scheme is the same as none.
    """
    sent = connection.headers.get("origin")
    if sent is None:  # an empty one is no page that may be trusted
        return True
    origin = plain_origin(sent)
    if origin in map(plain_origin, allowed):
        return True
    scheme, _, address = origin.partition("://")
    host = connection.headers.get("host", "").lower()
    return address == _without_default(host, scheme) != ""


class Cors(CORSMiddleware):
    """Takes an origin with its default port for the same one without it."""

    def is_allowed_origin(self, origin: str) -> bool:
        return super().is_allowed_origin(plain_origin(origin))


def _without_default(host: str, scheme: str) -> str:
    port = _DEFAULT_PORTS.get(scheme)
    return host.removesuffix(f":{port}") if port else host
