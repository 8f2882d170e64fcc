"""What stands around Serve's HTTP proxy, where a request arrives before it is anybody's.

Serve calls `layers` in each proxy process, because `sfumato up` and the deployment name it in
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``; a proxy that cannot does not start.
"""

from __future__ import annotations

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
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.deployments.bounded_head import bound_heads
from serve.deployments.bounded_socket import bound_sockets
from serve.deployments.starting import Starting
from serve.http.layers import BodyLimit, HeaderLimit, RequestId, SecurityHeaders
from serve.observability.logging import redact_records
from serve.settings import Settings


def layers() -> list[Middleware]:
    """The proxy's layers; as Serve has it, the last is the outermost.

    The limits are those of the app, which stands behind: but what the proxy lets in, it buffers.
    Its WebSockets and the heads of requests are bounded as well, for which ASGI has no layer.
    """
    settings = Settings()
    redact_records(log_prompts=settings.log_prompts)
    http = settings.http
    bound_heads()
    bound_sockets(0 if RAY_SERVE_ENABLE_HA_PROXY else http.max_sockets_per_address)
    return [
        Middleware(Starting),
        Middleware(OverrideHeaders),
        Middleware(BodyLimit, settings=http),
        Middleware(HeaderLimit),
        Middleware(SecurityHeaders),
        Middleware(RequestId),
    ]


def guarded() -> bool:
    """Whether this cluster's proxies were told to call `layers`, as far as this process knows."""
    return RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is not None


def _plain(name: str) -> bytes:
    """As Serve compares some of them: other proxies swap dashes and underscores."""
    return name.lower().replace("_", "-").encode()


_OVERRIDES = frozenset(
    _plain(name)
    for name in (
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        SERVE_MULTIPLEXED_MODEL_ID,
        SERVE_SESSION_ID,
    )
)
_LEAVING_IS_SEEN = (SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER.encode(), b"?1")
_ROUTER = _plain(SERVE_INGRESS_ROUTER_HEADER_PREFIX)


class OverrideHeaders:
    """Drops the headers by which a client would tell Serve how to treat its request.

    Serve obeys them before the app sees the request: no time-out, work that goes on without a
    client, a replica of one's choice.

    Our events WebSocket sees for itself when its client leaves. Where it runs on the loop of the
    listener, as behind HAProxy, Serve is told so: what a client says then goes straight to it, and
    waits in the kernel while it is busy, instead of in a queue without end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["headers"] = [
                (name, value) for name, value in scope["headers"] if not _overrides(name)
            ]
        if scope["type"] == "websocket" and not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
            scope["headers"].append(_LEAVING_IS_SEEN)
        await self._app(scope, receive, send)


def _overrides(name: bytes) -> bool:
    plain = name.lower().replace(b"_", b"-")
    return plain in _OVERRIDES or plain.startswith(_ROUTER)
