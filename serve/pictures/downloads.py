"""A file of a picture as an HTTP answer: who may have it, and whole, in part, or not again."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import SecurityScopes
from structlog.contextvars import bind_contextvars

from serve.access.auth import authorize, bearer, header
from serve.access.scopes import Scope
from serve.http.provided import provided
from serve.http.tagged import names
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.errors import RangeNotSatisfiable
from serve.pictures.signed_urls import SignedUrls
from serve.tables import Image, Variant

_LONGEST_NAME = 60
# One range: a longer header, or one of several ranges, does not match, and costs no time.
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


async def _tenant_of_request(
    needed: SecurityScopes,
    request: Request,
    image_id: UUID,
    variant: str,
    _bearer: object = Depends(bearer),
    _header: object = Depends(header),
    signature: Annotated[
        str | None, Query(description="Of a signed URL; stands for the key.")
    ] = None,
) -> UUID:
    if signature is None:
        return (await authorize(request, needed.scopes)).tenant_id
    tenant_id = await provided(request, SignedUrls).tenant_of(signature, image_id, variant)
    bind_contextvars(tenant_id=str(tenant_id))
    return tenant_id


Downloader = Annotated[UUID, Security(_tenant_of_request, scopes=[Scope.READ])]
"""The tenant whose file is requested, by key or by signature."""


ByteRange = Annotated[
    str | None,
    Header(
        alias="Range",
        description="One range as in `bytes=0-1023`; of several, the whole file comes.",
    ),
]
IfRange = Annotated[str | None, Header(description="The ETag that a range belongs to.")]


async def answer_file(
    request: Request,
    files: CheckedFiles,
    image: Image,
    file: Variant,
    *,
    if_none_match: str | None,
    byte_range: str | None,
    if_range: str | None,
    download: bool,
) -> Response:
    """200, 206, 304, or 307 to the bucket.

    The file never changes: its ETag is its SHA-256, which is checked.

    Raises:
        RangeNotSatisfiable: the range lies beyond the file.
        FileDamaged, ImageDeleted, StorageUnavailable: as `CheckedFiles` does.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, max-age=31536000, immutable",
        "Cross-Origin-Resource-Policy": "cross-origin",  # any page may show a signed URL
        "Vary": "Authorization, X-API-Key",
        "Accept-Ranges": "bytes",
    }
    if if_none_match is not None and names(if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    kind = "attachment" if download else "inline"
    headers["Content-Disposition"] = f'{kind}; filename="{_file_name(image, file)}"'
    if request.method == "HEAD":
        await files.check(image.tenant_id, file)
        headers["Content-Length"] = str(file.size)
        return Response(media_type=file.media_type, headers=headers)
    # A page that sends a key would need the bucket's CORS, and a bucket's URL names no file name.
    if "signature" in request.query_params and not download:
        url = await files.bucket_url(image.tenant_id, file)
        if url is not None:
            policy = headers["Cross-Origin-Resource-Policy"]
            headers = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": policy}
            return RedirectResponse(url, headers=headers)
    span = None
    # A weak tag or a date never says that the client's part is of this very file.
    if if_range is None or if_range.strip() == etag:
        span = requested_range(byte_range, file.size)
    if span is None:
        content = await files.whole(image.tenant_id, file)
        return Response(content, media_type=file.media_type, headers=headers)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{file.size}"
    content = await files.part(image.tenant_id, file, span)
    return Response(content, 206, media_type=file.media_type, headers=headers)


def requested_range(header: str | None, size: int) -> range | None:
    """The bytes of a file of ``size`` bytes that a Range header requests; None is for all of them.

    As RFC 9110 (14.2) allows, several ranges, other units than bytes and malformed headers are
    ignored.

    Raises:
        RangeNotSatisfiable: the file has none of these bytes.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        span = range(max(0, size - int(last)), size)
    elif not last:
        span = range(int(first), size)
    elif int(last) < int(first):
        return None
    else:
        span = range(int(first), min(int(last) + 1, size))
    if not span:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes, and none of those asked for; ask within 0-{size - 1}.",
            size=size,
        )
    return span


def _file_name(image: Image, file: Variant) -> str:
    """Like `a-red-heart-7.png`: ASCII letters, digits and hyphens alone."""
    words = re.sub(r"[^a-z0-9]+", "-", image.job.prompt.lower())
    name = words[:_LONGEST_NAME].strip("-") or "picture"
    return f"{name}-{image.seed}.{file.storage_key.rpartition('.')[2]}"
