"""Whose file it is that is asked for."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Security
from fastapi.security import SecurityScopes
from starlette.requests import Request

from serve.access.auth import authorize, bearer, header
from serve.access.scopes import Scope
from serve.http.provided import provided
from serve.pictures.signed_urls import File, SignedUrls


async def _downloads(
    needed: SecurityScopes,
    request: Request,
    image_id: UUID,
    variant: str,
    _caller_b: object = Depends(bearer),
    _caller_h: object = Depends(header),
    signature: Annotated[
        str | None, Query(description="Of a signed URL; stands for the key.")
    ] = None,
) -> UUID:
    if signature is None:
        return (await authorize(request, needed.scopes)).tenant_id
    return await provided(request, SignedUrls).tenant_of(signature, File(image_id, variant))


Downloader = Annotated[UUID, Security(_downloads, scopes=[Scope.READ])]
"""The tenant whose file is asked for, by key or by signature."""
