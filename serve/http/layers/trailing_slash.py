"""One slash at the end of a path, which many clients add."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlash:
    """Takes it away, so that the path leads where it does without.

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
