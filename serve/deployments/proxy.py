"""The middleware around Serve's HTTP proxy, which each request passes before the app.

Serve calls `layers` in each proxy process, because ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``
names it; if that fails the proxy does not start.
"""

from __future__ import annotations

from http import HTTPStatus

from ray.serve._private.constants import (
    RAY_SERVE_ENABLE_HA_PROXY,
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH,
    RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD,
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_INGRESS_ROUTER_HEADER_PREFIX,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
)
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.deployments.listener import bound_heads, bound_sockets
from serve.http.layers import AnswerHeaders, RequestLimits
from serve.http.problems import answer, refusal
from serve.observability.logging import redact_records
from serve.settings import Settings

_STARTING_RETRY_S = 2


def layers() -> list[Middleware]:
    """The proxy's layers; for Serve the last is the outermost.

    The app has the same limits, but the proxy buffers what it lets in. WebSockets and the heads of
    requests are bounded in uvicorn itself, since no ASGI layer can.
    """
    settings = Settings()
    redact_records(log_prompts=settings.log_prompts)
    http = settings.http
    bound_heads()
    bound_sockets(0 if RAY_SERVE_ENABLE_HA_PROXY else http.max_sockets_per_address)
    return [
        Middleware(Starting),
        Middleware(OverrideHeaders),
        Middleware(RequestLimits, settings=http),
        Middleware(AnswerHeaders),
    ]


def guarded() -> bool:
    """Whether this cluster's proxies are configured to call `layers`, judging by this process."""
    return RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is not None


def _plain(name: bytes) -> bytes:
    """As Serve compares header names: other proxies swap dashes and underscores."""
    return name.lower().replace(b"_", b"-")


_OVERRIDES = frozenset(
    _plain(name.encode())
    for name in (
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        SERVE_MULTIPLEXED_MODEL_ID,
        SERVE_SESSION_ID,
    )
)
_NOTICES_DISCONNECTS = (SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER.encode(), b"?1")
_ROUTER = _plain(SERVE_INGRESS_ROUTER_HEADER_PREFIX.encode())


class OverrideHeaders:
    """Drops the headers by which a client could control how Serve treats its request.

    Serve obeys them before the app sees the request: no time-out, work that goes on after the
    client has left, a chosen replica.

    Our events WebSocket notices by itself when its client leaves. Where it runs on the listener's
    loop, as behind HAProxy, a header says so to Serve, which then passes messages straight to it:
    while it is busy they wait in the kernel, not in a queue without bound.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["headers"] = [
                (name, value) for name, value in scope["headers"] if not _overrides(name)
            ]
        if scope["type"] == "websocket" and not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
            scope["headers"].append(_NOTICES_DISCONNECTS)
        await self._app(scope, receive, send)


def _overrides(name: bytes) -> bool:
    plain = _plain(name)
    return plain in _OVERRIDES or plain.startswith(_ROUTER)


class Starting:
    """Answers 503 with `Retry-After` where Serve's proxy answers 404 for want of an application.

    The application answers every path, and its errors are JSON. So a 404 in plain text is Serve's:
    the application is not deployed yet.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def send_unless_unknown(message: Message) -> None:
            nonlocal refused
            if _is_unknown_path(message):
                refused = True
                starting = refusal(503, "starting", "The service starts; send the request again.")
                refuse = answer(starting, scope, {"Retry-After": str(_STARTING_RETRY_S)})
                await refuse(scope, receive, send)
            elif not refused:
                await send(message)

        await self._app(scope, receive, send_unless_unknown)


def _is_unknown_path(message: Message) -> bool:
    """Serve answers so to WebSockets, too, for which ASGI has another type of message."""
    if message["type"] != "http.response.start" or message["status"] != HTTPStatus.NOT_FOUND:
        return False
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return kind.startswith("text/plain")
