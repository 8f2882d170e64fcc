"""The wire of a WebSocket, for the route that follows events."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.wire import Wire


class WireInScope:
    """Leaves a WebSocket's wire, or None, in its scope's state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope.setdefault("state", {})["wire"] = Wire.behind(receive)
        await self._app(scope, receive, send)
