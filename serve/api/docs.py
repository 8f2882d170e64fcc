"""The API's reference: Scalar's page over the OpenAPI document, and the AsyncAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from serve.api.asyncapi import asyncapi
from serve.http.http_route import HttpRoute
from serve.http.static_files import packaged

router = APIRouter(include_in_schema=False, route_class=HttpRoute)

# Scalar makes its style elements at run time.
_POLICY = "style-src 'self' 'unsafe-inline'; img-src 'self' data:"


@router.get("/docs")
async def reference(request: Request) -> Response:
    if request.scope.get("raw_path", b"").endswith(b"/"):  # the links of the page are relative
        return RedirectResponse("../docs", HTTPStatus.PERMANENT_REDIRECT)
    return packaged("reference", "index.html", request, _POLICY)


@router.get("/docs/{name}")
async def asset(name: str, request: Request) -> Response:
    return packaged("reference", name, request, _POLICY)


@router.get("/asyncapi.json")
async def events_document() -> dict[str, Any]:
    return asyncapi()
