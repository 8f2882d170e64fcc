"""A bound on the body: its size, and how long it may take to come."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.layers.refusal import refusal
from serve.http.problems import TOO_LARGE
from serve.http.route_path import route_path
from serve.settings import HttpSettings

FORM, JSON = "multipart/form-data", "application/json"
UPLOADS = {"/v1/images/edits": (FORM, JSON), "/v1/images/variations": (FORM,)}
"""The routes that take pictures, and as what."""


class BodyLimit:
    """Refuses a body over its limit before reading it or while it comes, and one that dawdles.

    Then the app is told that the client has left, and what it still says goes nowhere: so the
    layer works the same around the routes and around Serve's proxy, which reads ahead.

    FastAPI's own ``max_body_size`` answers outside of the layers that give an error its shape
    and its request id.
    """

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(route_path(scope), headers.get("content-type", ""))
        told = headers.get("content-length", "")
        if told.isdecimal() and (len(told) > 18 or int(told) > limit):
            await _too_large(scope, limit)(scope, receive, send)
            return
        body = _Body(scope, receive, send, limit, self._settings.body_timeout_s)
        await self._app(scope, body.receive, body.send)

    def _limit(self, path: str, content_type: str) -> int:
        kind = content_type.partition(";")[0].strip().lower()
        if kind in UPLOADS.get(path.removesuffix("/"), ()):
            return self._settings.max_upload_bytes
        return self._settings.max_body_bytes


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
            return await self._refuse(_too_slow(self._scope, self._timeout_s))
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            return await self._refuse(_too_large(self._scope, self._limit))
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self._refused:
            self._answering = True
            await self._send(message)

    async def _refuse(self, response: Response) -> Message:
        self._refused = True
        if not self._answering:
            await response(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}


def _too_large(scope: Scope, limit: int) -> Response:
    return refusal(scope, HTTPStatus(413), TOO_LARGE, f"The body is larger than {limit} bytes.")


def _too_slow(scope: Scope, timeout_s: float) -> Response:
    return refusal(
        scope,
        HTTPStatus(408),
        "body_too_slow",
        f"The body did not come within {timeout_s:g} seconds.",
        {"Connection": "close"},
    )
