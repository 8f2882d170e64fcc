"""Which pages may open a WebSocket: browsers, unlike with fetch, ask nobody before they do."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection


def may_connect(connection: HTTPConnection, allowed: Collection[str]) -> bool:
    """Whether the request comes from no page, from one of this host, or from an allowed origin.

    The scheme of this host is not compared: TLS may end before us.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin.lower() in allowed:
        return True
    return urlsplit(origin.lower()).netloc == connection.headers.get("host", "").lower() != ""
