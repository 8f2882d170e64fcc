"""Authentication by ``Authorization: Bearer`` or ``X-API-Key``, and authorization by scope.

Every route but the public ones declares its caller by the scope that it needs: ``Reader``,
``Drawer``, ``Admin`` or ``Operator``. `GuardedRoute` lets nobody else through.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import Depends, Response, Security, params
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from structlog.contextvars import bind_contextvars

from serve.access.keys import Keys, Principal
from serve.access.rate_limit import Policy, RateLimits
from serve.access.scopes import Scope
from serve.errors import ServiceError
from serve.http.errors import ClientLeft
from serve.http.http_route import HttpRoute
from serve.http.json_body import check_json
from serve.http.provided import provided

bearer = HTTPBearer(auto_error=False, description="An API key: `sfm_…`")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key: `sfm_…`")


class MissingKey(ServiceError):
    status = 401
    code = "missing_api_key"
    title = "No API key"


def key_of(connection: HTTPConnection) -> str | None:
    """The key that the headers carry."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key", "").strip() or None


async def authorize(request: Request, scopes: Sequence[str]) -> Principal:
    """Authenticate, check the key's scopes, and count a request that changes something.

    Raises:
        MissingKey, InvalidKey: the request has no valid key.
        InsufficientScope: the key lacks a scope.
        RateLimitExceeded: the tenant sends too many requests.
    """
    token = key_of(request)
    if token is None:
        raise MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`.")
    principal = await provided(request, Keys).authenticate(token)
    bind_contextvars(tenant_id=str(principal.tenant_id))
    for scope in scopes:
        principal.require(Scope(scope))
    request.state.principal = principal
    if request.method not in _SAFE_METHODS:
        await provided(request, RateLimits).take(principal.tenant_id, Policy.REQUESTS, 1)
    return principal


# The two security schemes are parameters, though unused, so that OpenAPI lists them.
async def _caller(
    request: Request, _b: object = Depends(bearer), _h: object = Depends(header)
) -> Principal:
    """Whom `GuardedRoute` has authorized; on any other kind of route this fails."""
    principal: Principal = request.state.principal
    return principal


Reader = Annotated[Principal, Security(_caller, scopes=[Scope.READ])]
Drawer = Annotated[Principal, Security(_caller, scopes=[Scope.GENERATE])]
Admin = Annotated[Principal, Security(_caller, scopes=[Scope.ADMIN])]
Operator = Annotated[Principal, Security(_caller, scopes=[Scope.OPERATOR])]


def scopes_of(endpoint: Callable[..., object]) -> Sequence[str] | None:
    """The scopes that the endpoint's caller needs; None where the endpoint declares no caller."""
    for parameter in inspect.signature(endpoint, eval_str=True).parameters.values():
        for dependency in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(dependency, params.Security) and dependency.dependency is _caller:
                return tuple(dependency.scopes or ())
    return None


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
