"""Who asks: the key in ``Authorization: Bearer`` or ``X-API-Key``."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection, Request

from serve.api.errors import MissingKey
from serve.api.services import Services
from serve.security.keys import Principal
from serve.security.signed_urls import File

_bearer = HTTPBearer(auto_error=False, description="An API key: `sfm_…`")
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
async def _authenticate(
    request: Request, _b: object = Depends(_bearer), _h: object = Depends(_header)
) -> Principal:
    token = key_of(request)
    if token is None:
        raise MissingKey("Send an API key: `Authorization: Bearer sfm_…`, or `X-API-Key`.")
    return await services_of(request).keys.authenticate(token)


Caller = Annotated[Principal, Depends(_authenticate)]


async def _downloads(
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
        return (await _authenticate(request)).tenant_id
    return await services_of(request).signed_urls.tenant_of(signature, File(image_id, variant))


Downloader = Annotated[UUID, Depends(_downloads)]
"""The tenant whose file is asked for, by key or by signature."""


def _services(request: Request) -> Services:
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]
