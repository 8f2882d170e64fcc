"""JSON answers with an ETag: a client that has one already is not sent it again."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header, Response

from serve.http.documented import Responses, header

IfNoneMatch = Annotated[
    str | None, Header(description="ETags that the client has; 304 where it is among them.")
]
_HEADERS = {"ETag": header("ETag")}
TAGGED: Responses = {
    200: {"headers": _HEADERS},
    304: {"description": "The client has it already.", "headers": _HEADERS},
}
"""What a route that answers by `tagged_json` says of it."""


def tagged_json(body: bytes, if_none_match: str | None) -> Response:
    """200 with the body, or 304. Browsers keep neither (``no-store``): it may hold prompts."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"'}
    if if_none_match is not None and names(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def names(if_none_match: str, tag: str) -> bool:
    """Whether the header names the content of this tag."""
    tags = (each.strip().removeprefix("W/").strip('"') for each in if_none_match.split(","))
    return any(each in ("*", tag) for each in tags)
