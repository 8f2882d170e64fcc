"""The gallery page: a few files of the package, under a policy that lets in nothing else."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@router.get("/")
async def index(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    return _file("index.html", if_none_match)


@router.get("/web/{name}")
async def asset(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    return _file(name, if_none_match)


def _file(name: str, if_none_match: str | None) -> Response:
    # A route parameter holds no slash, and a name that starts with a dot has no type below.
    file = files("serve") / "web" / name
    media_type = _TYPES.get(name.rpartition(".")[2])
    if media_type is None or not file.is_file():
        raise HTTPException(404)
    content = file.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
