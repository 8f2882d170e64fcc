"""Files of the package, served under a policy that lets in nothing else."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; "
)
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _Packaged:
    content: bytes
    media_type: str
    etag: str
    packed: bool


@cache  # what is not there raises, and is not kept
def _read(folder: str, name: str) -> _Packaged:
    # A route parameter holds no slash, and a name that starts with a dot has no type above.
    media_type = _TYPES.get(name.rpartition(".")[2])
    place = files("serve") / folder
    file, packed = place / name, place / f"{name}.gz"
    if media_type is None or not (file.is_file() or packed.is_file()):
        raise HTTPException(404)
    content = file.read_bytes() if file.is_file() else packed.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _Packaged(content, media_type, etag, not file.is_file())


def packaged(folder: str, name: str, request: Request, policy: str) -> Response:
    """The file of that name in ``serve/<folder>``; one that is kept as ``.gz`` is sent as such.

    ``policy`` says what its Content-Security-Policy lets in beside the package's own scripts.

    Raises:
        HTTPException: 404, there is none.
    """
    file = _read(folder, name)
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY + policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.packed:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = gzip.decompress(content)
    return Response(content, media_type=file.media_type, headers=headers)
