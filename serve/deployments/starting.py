"""What Serve's proxy says while there is no application behind it."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.layers import refusal

_RETRY_AFTER_S = 2


class Starting:
    """Answers 503 with `Retry-After` where Serve's proxy itself answers that it has no such path.

    The application has every path, and its errors are JSON. A plain 404 is Serve's own: the
    application is not deployed yet, and clients would believe that the service is another one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def send_unless_unknown(message: Message) -> None:
            nonlocal refused
            if _is_unknown_path(message):
                refused = True
                answer = refusal(
                    scope,
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "starting",
                    "The service starts; send the request again.",
                    {"Retry-After": str(_RETRY_AFTER_S)},
                )
                await answer(scope, receive, send)
            elif not refused:
                await send(message)

        await self._app(scope, receive, send_unless_unknown)


def _is_unknown_path(message: Message) -> bool:
    """Serve answers so on WebSockets, too, for which ASGI has another type of message."""
    if message["type"] != "http.response.start" or message["status"] != HTTPStatus.NOT_FOUND:
        return False
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return kind.startswith("text/plain")
