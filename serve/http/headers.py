"""The answers' headers, as the OpenAPI document tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve.http.problems import REQUEST_ID


@dataclass(frozen=True, slots=True)
class Header:
    """``always``: on every answer of a status that names it."""

    description: str
    example: str
    always: bool = False
    integer: bool = False

    def told(self, example: str | None = None) -> dict[str, Any]:
        shown = self.example if example is None else example
        return {
            "description": self.description,
            "required": self.always,
            "schema": {"type": "integer", "minimum": 0} if self.integer else {"type": "string"},
            "example": int(shown) if self.integer else shown,
        }


HEADERS = {
    REQUEST_ID: Header(
        "This request's name in the log: the one that was sent, if it has 1 to 128 letters,"
        " digits, `.`, `_` or `-`; else a new one.",
        "5f0d3a4be1c94e0f8a4e1d7b9c2a6f31",
        always=True,
    ),
    "WWW-Authenticate": Header("How to authenticate.", "Bearer", always=True),
    "Retry-After": Header("Seconds after which to ask again.", "2", integer=True),
    "RateLimit-Policy": Header(
        "The tenant's limits: `q` at once, and as many again in `w` seconds, of requests or of"
        " what `qu` names. Only where there are any.",
        '"requests";q=120;w=60, "gpu-seconds";q=60;w=60;qu="gpu-seconds"',
    ),
    "RateLimit": Header(
        "Of each limit, `r` are left, and in `t` seconds all will be.",
        '"requests";r=119;t=1, "gpu-seconds";r=52;t=8',
    ),
    "Location": Header("Path of what was made.", "/v1/jobs", always=True),
    "ETag": Header("Names the content; send it as `If-None-Match`.", '"…"', always=True),
    "Cache-Control": Header("How long the answer may be kept.", "no-store"),
    "Accept-Ranges": Header("In what units a part may be asked for.", "bytes", always=True),
    "Content-Range": Header(
        "Which bytes these are, and of how many; `bytes */6184` where none of them is there.",
        "bytes 0-1023/6184",
        always=True,
    ),
    "Content-Length": Header("Bytes of the content.", "6184", integer=True),
    "Content-Disposition": Header(
        "Whether browsers show or save the file, and its name.",
        'inline; filename="a-red-heart-7.png"',
    ),
    "X-Job-ID": Header(
        "The job that was waited for; look at `/v1/jobs/{id}`.",
        "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60",
    ),
    "X-Should-Retry": Header(
        "`false` where asking again would only bring the same; OpenAI's clients heed it.", "false"
    ),
}


_BEFORE_A_TENANT_IS_KNOWN = ("401", "403", "414", "431", "default")


def headers_at(status: str, *, asks_key: bool) -> tuple[str, ...]:
    """The headers of every answer of that status, by an operation that asks for a key or not."""
    names = [REQUEST_ID]
    if status == "401":
        names.append("WWW-Authenticate")
    if status in ("429", "503"):
        names.append("Retry-After")
    if asks_key and status not in _BEFORE_A_TENANT_IS_KNOWN:
        names += ["RateLimit-Policy", "RateLimit"]
    return tuple(names)
