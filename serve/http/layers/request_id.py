"""A name for every request."""

from __future__ import annotations

import re
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.problems import REQUEST_ID

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Names every request, on its answer and on each log line that it causes.

    A client's own name is kept if it is harmless, and replaced for whatever comes after if not.
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
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_named)
