"""ASGI layers around every request: its id, its measure, and a bound on its body."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.problems import REQUEST_ID, TOO_LARGE, answer
from serve.api.schemas.problem import Problem
from serve.observability.metrics import Metrics

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024
MAX_UPLOAD_BYTES = 32 * 1024 * 1024
_UPLOADS = ("/v1/images/edits", "/v1/images/variations")
_PROBES = ("/health", "/ready", "/metrics")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Names every request, on its answer and on each log line that it causes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_named)


class RequestMetrics:
    """Counts, times and logs every HTTP request under its route's template."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method, seconds = _method(scope["method"]), time.perf_counter() - started
            self._metrics.observe_request(method, route, status, seconds)
            tell = log.debug if route in _PROBES else log.info
            tell("http.request", method=method, route=route, status=status, seconds=seconds)


class BodyLimit:
    """Refuses a body over the limit before reading it, or while it comes.

    FastAPI's own ``max_body_size`` answers outside of the layers that give an error its shape
    and its request id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = MAX_UPLOAD_BYTES if scope["path"] in _UPLOADS else MAX_BODY_BYTES
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told) > limit:
            request_id = scope["state"]["request_id"]
            response = answer(_too_large(limit), path=scope["path"], request_id=request_id)
            await response(scope, receive, send)
            return
        total = 0

        async def receive_bounded() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise HTTPException(413, _too_large(limit).detail)
            return message

        await self._app(scope, receive_bounded, send)


def _too_large(limit: int) -> Problem:
    return Problem(
        title=HTTPStatus(413).phrase,
        status=413,
        detail=f"The body is larger than {limit} bytes.",
        code=TOO_LARGE,
    )


def _method(name: str) -> str:
    """The method as a label; a made-up one must not make a new series."""
    return name if name in ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS") else "other"
