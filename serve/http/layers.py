"""What every request passes, in small ASGI layers; the proxy has some of them as well."""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from serve.http.drain import Drain
from serve.http.errors import ServerStopping
from serve.http.http_route import route_path
from serve.http.problems import (
    INTERNAL_ERROR,
    PROBLEM_CODE,
    REQUEST_ID,
    SECURITY_HEADERS,
    TOO_LARGE,
    Problem,
    answer,
    problem_of,
    refusal,
)
from serve.observability.meter import Meter
from serve.observability.metrics import HTTP_REFUSALS, HTTP_REQUEST_DURATION, HTTP_REQUESTS
from serve.settings import HttpSettings

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_TARGET_BYTES = 8 * 1024
URI_TOO_LONG = refusal(
    414, "uri_too_long", f"Path and query must have {MAX_TARGET_BYTES} bytes at most."
)
HEADERS_TOO_LARGE = refusal(
    431,
    "headers_too_large",
    f"A request has {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes of them at most.",
)


def too_large(limit: int) -> Problem:
    return refusal(413, TOO_LARGE, f"The body is larger than {limit} bytes.")


def too_slow(timeout_s: float) -> Problem:
    return refusal(408, "body_too_slow", f"The body did not come within {timeout_s:g} seconds.")


FORM, JSON = "multipart/form-data", "application/json"
UPLOADS = {
    "/v1/images/edits": (FORM, JSON),
    "/v1/images/variations": (FORM,),
    "/v1/edits": (FORM,),
}
"""The routes that take pictures, and as what."""
_LORA = re.compile(r"/v1/operator/models/.+/loras/[^/]+")
_LORA_TYPES = ("application/octet-stream", "")
"""curl sends a file with no type."""


class RequestLimits:
    """Refuses too many or too large headers, too long an address, and a body that is larger than
    its limit or takes too long to arrive.

    After the refusal of a body the app receives `http.disconnect`, and whatever it still sends is
    dropped. So the layer works the same around the routes and around Serve's proxy, which reads
    ahead.

    FastAPI's own ``max_body_size`` answers outside of the layers that give an error its shape
    and its request id.
    """

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        limit = self._body_limit(scope)
        fault = _fault(scope, limit)
        if scope["type"] == "websocket" and fault is not None:
            await send({"type": "websocket.close", "code": 1008})  # not accepted yet: HTTP 403
        elif fault is not None:
            await answer(fault, scope)(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            body = _Body(scope, receive, send, limit, self._settings.body_timeout_s)
            await self._app(scope, body.receive, body.send)

    def _body_limit(self, scope: Scope) -> int:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        path = route_path(scope).removesuffix("/")
        if kind in UPLOADS.get(path, ()) or (kind in _LORA_TYPES and _LORA.fullmatch(path)):
            return self._settings.max_upload_bytes
        return self._settings.max_body_bytes


def _fault(scope: Scope, body_limit: int) -> Problem | None:
    """What the request's head is refused for."""
    if len(scope["path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return URI_TOO_LONG
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        return HEADERS_TOO_LARGE
    length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
    if length.isdecimal() and (len(length) > 18 or int(length) > body_limit):
        return too_large(body_limit)
    return None


class _Body:
    """One request's body as it comes."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limit: int, timeout_s: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._timeout_s = timeout_s
        self._until: float | None = None
        self._bytes = 0
        self._whole = False
        self._answering = False
        self._refused = False

    async def receive(self) -> Message:
        if self._refused:
            return {"type": "http.disconnect"}
        if self._whole:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + self._timeout_s
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(too_slow(self._timeout_s), {"Connection": "close"})
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            return await self._refuse(too_large(self._limit))
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self._refused:
            self._answering = True
            await self._send(message)

    async def _refuse(self, problem: Problem, headers: dict[str, str] | None = None) -> Message:
        self._refused = True
        if not self._answering:
            refused = answer(problem, self._scope, headers)
            await refused(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}


_READS = ("GET", "HEAD", "OPTIONS")


class Calls:
    """Counts the requests that change something, and refuses them once the process drains.

    Requests that only read are answered to the end.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        if self._drain.begun:
            error = ServerStopping("The server restarts; send the request again.")
            headers = error.headers | {"Connection": "close"}
            refused = answer(problem_of(error), scope, headers)
            await refused(scope, receive, send)
            return
        with self._drain.call():
            await self._app(scope, receive, send)


class TrailingSlash:
    """Removes the slash at the end of a path, which many clients add.

    A redirect would do for GET alone: clients drop the body of a POST on their way, or the key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path: str = scope["path"]
            if path.endswith("/") and path != scope.get("root_path", "") + "/":
                scope["path"] = path[:-1]  # in place: layers around read the route from this scope
        await self._app(scope, receive, send)


_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class AnswerHeaders:
    """Names every request, and sets each security header that the route has not set itself.

    The name is on the answer and on each log line that the request causes. A client's own is kept
    if it is harmless, and replaced for whatever comes after if not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        given = headers.getlist(REQUEST_ID)
        request_id = given[0] if len(given) == 1 and _SANE_ID.fullmatch(given[0]) else uuid4().hex
        headers[REQUEST_ID] = request_id
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message.setdefault("headers", [])
                answered = MutableHeaders(scope=message)
                answered[REQUEST_ID] = request_id
                if message["type"] == "http.response.start":
                    for name, value in SECURITY_HEADERS.items():
                        answered.setdefault(name, value)
            await send(message)

        structlog.contextvars.clear_contextvars()  # of a request before it in the same task
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await self._app(scope, receive, send_named)


log = structlog.get_logger(__name__)

PROBES = ("/health", "/ready", "/metrics")
_METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")


class RequestMetrics:
    """Counts, times and logs every HTTP request under its route's template."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state = scope.setdefault("state", {})
        try:
            await self._app(scope, receive, send_observed)
        except Exception:
            state[PROBLEM_CODE] = INTERNAL_ERROR.code  # its answer had begun already
            raise
        finally:
            refusal = {"code": state[PROBLEM_CODE]} if PROBLEM_CODE in state else {}
            if refusal:
                self._meter.count(HTTP_REFUSALS, **refusal)
            route = getattr(scope.get("route"), "path_format", "unmatched")
            # A made-up method must not make a new series.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.perf_counter() - started
            self._meter.count(HTTP_REQUESTS, method=method, route=route, status=str(status))
            self._meter.observe(HTTP_REQUEST_DURATION, seconds, method=method, route=route)
            tell = log.debug if route in PROBES else log.info
            tell(
                "http.request",
                method=method,
                route=route,
                status=status,
                seconds=round(seconds, 6),
                **refusal,
            )


class UnexpectedErrors:
    """Answers an unexpected error with 500, and logs it.

    Starlette's own handler raises the error again, and the server logs it a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = scope["type"] != "http"

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except (ClientDisconnect, WebSocketDisconnect):
            raise
        except Exception:
            log.exception("api.unexpected", path=scope["path"])
            if begun:  # only a cut connection tells the client
                raise
            await answer(INTERNAL_ERROR, scope)(scope, receive, send)
