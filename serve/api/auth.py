"""Who asks: the key in ``Authorization: Bearer`` or ``X-API-Key``, and what it may do.

Every route but the public ones names its caller by the scope that it needs: ``Reader``,
``Drawer``, ``Admin`` or ``Operator``.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.requests import HTTPConnection, Request

from serve.api.errors import MissingKey
from serve.api.services import Services
from serve.security.keys import Principal
from serve.security.scopes import Scope
from serve.security.signed_urls import File

_bearer = HTTPBearer(auto_error=False, description="An API key: `sfm_…`")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key: `sfm_…`")


def key_of(connection: HTTPConnection) -> str | None:
    """The key that the headers carry."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key") or None


def services_of(connection: HTTPConnection) -> Services:
    """The services that the app was created with."""
    services: Services = connection.app.state.services
    return services


# The two security schemes are asked for, though not read, so that OpenAPI tells of them.
async def _authorize(
    needed: SecurityScopes,
    request: Request,
    _b: object = Depends(_bearer),
    _h: object = Depends(_header),
) -> Principal:
    """Authenticate, see that the key has the scope, and count a request that changes something."""
    token = key_of(request)
    if token is None:
        raise MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`.")
    services = services_of(request)
    principal = await services.keys.authenticate(token)
    for scope in needed.scopes:
        principal.require(Scope(scope))
    request.state.tenant_id = principal.tenant_id
    if request.method not in _SAFE_METHODS:
        await services.jobs.limits.count_request(principal.tenant_id)
    return principal


Reader = Annotated[Principal, Security(_authorize, scopes=[Scope.READ])]
Drawer = Annotated[Principal, Security(_authorize, scopes=[Scope.GENERATE])]
Admin = Annotated[Principal, Security(_authorize, scopes=[Scope.ADMIN])]
Operator = Annotated[Principal, Security(_authorize, scopes=[Scope.OPERATOR])]


async def _downloads(
    needed: SecurityScopes,
    request: Request,
    image_id: UUID,
    variant: str,
    _caller_b: object = Depends(_bearer),
    _caller_h: object = Depends(_header),
    signature: Annotated[
        str | None, Query(description="Of a signed URL; stands for the key.")
    ] = None,
) -> UUID:
    if signature is None:
        return (await _authorize(needed, request)).tenant_id
    return await services_of(request).signed_urls.tenant_of(signature, File(image_id, variant))


Downloader = Annotated[UUID, Security(_downloads, scopes=[Scope.READ])]
"""The tenant whose file is asked for, by key or by signature."""


async def _services(request: Request) -> Services:
    return services_of(request)  # were this no coroutine, FastAPI would ask a thread for it


ServicesDep = Annotated[Services, Depends(_services)]
