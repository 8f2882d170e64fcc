"""Routes that authorize the caller before they read the body."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Response
from starlette.requests import ClientDisconnect, Request

from serve.access.auth import authorize, scopes_of
from serve.http.errors import ClientLeft
from serve.http.http_route import HttpRoute
from serve.http.json_body import check_json


class GuardedRoute(HttpRoute):
    """Authorizes the caller that the endpoint declares, and only then reads the body.

    By itself FastAPI reads and parses a body before it solves a dependency: the body of a caller
    without a key would be kept in memory and validated.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's, behind the guard."""
        handle = super().get_route_handler()
        scopes = scopes_of(self.endpoint)
        takes_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            if scopes is not None:
                await authorize(request, scopes)
            if takes_body:
                await read_body(request)
            return await handle(request)

        return guarded


async def read_body(request: Request) -> bytes:
    """The body, which `RequestLimits` bounds; the request keeps it.

    Raises:
        ClientLeft: the client disconnected before it was complete.
        InvalidJson, JsonTooDeep: a parser must not see it.
    """
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise ClientLeft("The client left before its body had come.") from error
    check_json(request.headers.get("content-type", ""), body)
    return body
