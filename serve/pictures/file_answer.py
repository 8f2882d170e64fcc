"""A file of a picture as an HTTP answer: whole, in part, or not again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request, Response

from serve.pictures.byte_range import asked_range, still_current
from serve.pictures.checked_files import CheckedFiles
from serve.tables import Image, Variant

_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class FileHeaders:
    """The conditions and the range of one request."""

    if_none_match: str | None
    byte_range: str | None
    if_range: str | None


async def file_headers(
    if_none_match: Annotated[
        str | None, Header(description="ETags that the client has; 304 where it is among them.")
    ] = None,
    byte_range: Annotated[
        str | None,
        Header(
            alias="Range",
            description="One range as in `bytes=0-1023`; of several, the whole file comes.",
        ),
    ] = None,
    if_range: Annotated[str | None, Header(description="The ETag that a range belongs to.")] = None,
) -> FileHeaders:
    """Of the request that is being answered."""
    return FileHeaders(if_none_match, byte_range, if_range)


async def answer_file(
    request: Request,
    files: CheckedFiles,
    image: Image,
    file: Variant,
    asked: FileHeaders,
    *,
    download: bool,
) -> Response:
    """200, 206 or 304. The file never changes: its ETag is its SHA-256, which is checked.

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
    if asked.if_none_match is not None and _matches(asked.if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    kind = "attachment" if download else "inline"
    headers["Content-Disposition"] = f'{kind}; filename="{file_name(image, file)}"'
    if request.method == "HEAD":
        await files.check(image.tenant_id, file)
        headers["Content-Length"] = str(file.size)
        return Response(media_type=file.media_type, headers=headers)
    span = None
    if still_current(asked.if_range, etag):
        span = asked_range(asked.byte_range, file.size)
    if span is None:
        content = await files.whole(image.tenant_id, file)
        return Response(content, media_type=file.media_type, headers=headers)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{file.size}"
    content = await files.part(image.tenant_id, file, span)
    return Response(content, 206, media_type=file.media_type, headers=headers)


def file_name(image: Image, file: Variant) -> str:
    """Like `a-red-heart-7.png`: ASCII letters, digits and hyphens alone."""
    words = re.sub(r"[^a-z0-9]+", "-", image.job.prompt.lower())
    name = words[:_LONGEST_NAME].strip("-") or "picture"
    return f"{name}-{image.seed}.{file.storage_key.rpartition('.')[2]}"


def _matches(if_none_match: str, sha256: str) -> bool:
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(","))
    return any(tag in ("*", sha256) for tag in tags)
