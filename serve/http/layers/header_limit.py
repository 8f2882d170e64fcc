"""A bound on what comes before the body."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.layers.refusal import refusal

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_TARGET_BYTES = 8 * 1024


class HeaderLimit:
    """Refuses a request with too many or too large headers, or too long an address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        fault = _fault(scope)
        if fault is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # not accepted yet: HTTP 403
        else:
            await refusal(scope, *fault)(scope, receive, send)


def _fault(scope: Scope) -> tuple[HTTPStatus, str, str] | None:
    if len(scope["path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return (
            HTTPStatus(414),
            "uri_too_long",
            f"Path and query must have {MAX_TARGET_BYTES} bytes at most.",
        )
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        return (
            HTTPStatus(431),
            "headers_too_large",
            f"A request has {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes of them at most.",
        )
    return None
