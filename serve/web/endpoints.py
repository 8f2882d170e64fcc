"""The gallery and the exhibition: files of the package, under a policy that lets in no others."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from serve.http.http_route import HttpRoute
from serve.http.static_files import packaged

router = APIRouter(include_in_schema=False, route_class=HttpRoute)

_POLICY = "style-src 'self'; img-src 'self' data: blob:; manifest-src 'self'"


@router.get("/")
async def index(request: Request) -> Response:
    return packaged("web/page", "index.html", request, _POLICY)


@router.get("/exhibition")
async def exhibition(request: Request) -> Response:
    return packaged("web/page", "exhibition.html", request, _POLICY)


@router.get("/web/{name}")
async def asset(name: str, request: Request) -> Response:
    return packaged("web/page", name, request, _POLICY)
