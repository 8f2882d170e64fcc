"""Where clients find this service, and from which pages they may come."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request

from serve.http.provided import provided
from serve.settings import Settings


def base_url(request: Request) -> str:
    """What every URL of this service begins with, without a slash at its end."""
    public_url = provided(request, Settings).http.public_url
    return (public_url or str(request.base_url)).rstrip("/")


def path_to(path: str, request: Request) -> str:
    """The path of a `Location`, which clients resolve against this host."""
    return urlsplit(base_url(request)).path + path


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
