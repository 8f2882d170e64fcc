"""Calls of a process that is to stop."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.drain import Drain
from serve.http.errors import ServerStopping
from serve.http.problems import answer, headers_of, problem_of
from serve.http.route_path import route_path

_READS = ("GET", "HEAD", "OPTIONS")


class Calls:
    """Counts the requests that change something, and refuses them once the process drains.

    Whoever only reads is answered to the end: what was read can be asked for again.
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
            refused = answer(
                problem_of(error),
                path=route_path(scope),
                request_id=scope.get("state", {}).get("request_id"),
                headers=headers_of(error) | {"Connection": "close"},
            )
            await refused(scope, receive, send)
            return
        with self._drain.call():
            await self._app(scope, receive, send)
