"""The gallery, the exhibition and the operator's page, under a policy that lets in nothing else."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from serve.http.http_route import HttpRoute
from serve.http.static_files import packaged

router = APIRouter(include_in_schema=False, route_class=HttpRoute)

_POLICY = "style-src 'self'; img-src 'self' data: blob:; manifest-src 'self'"


@router.get("/")
async def index(request: Request) -> Response:
    return packaged("web/page", "index.html", request, _POLICY)


@router.get("/exhibition")
async def exhibition(request: Request) -> Response:
    return _page("exhibition", request)


@router.get("/operator")
async def operator(request: Request) -> Response:
    return _page("operator", request)


@router.get("/web/{name}")
async def asset(name: str, request: Request) -> Response:
    return packaged("web/page", name, request, _POLICY)


def _page(name: str, request: Request) -> Response:
    if request.scope.get("raw_path", b"").endswith(b"/"):  # the links of the page are relative
        return RedirectResponse(f"../{name}", HTTPStatus.PERMANENT_REDIRECT)
    return packaged("web/page", f"{name}.html", request, _POLICY)
