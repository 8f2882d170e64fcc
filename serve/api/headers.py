"""The answers' headers, as the OpenAPI document tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve.api.problems import REQUEST_ID


@dataclass(frozen=True, slots=True)
class Header:
    """``always``: on every answer of a status that names it."""

    description: str
    example: str
    always: bool = False
    integer: bool = False

    def told(self) -> dict[str, Any]:
        return {
            "description": self.description,
            "required": self.always,
            "schema": {"type": "integer", "minimum": 0} if self.integer else {"type": "string"},
            "example": int(self.example) if self.integer else self.example,
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
    "Location": Header("Path of what was made.", "/v1/jobs", always=True),
    "ETag": Header("Names the content; send it as `If-None-Match`.", '"…"', always=True),
    "Cache-Control": Header("How long the answer may be kept.", "no-store"),
    "X-Job-ID": Header(
        "The job that was waited for; look at `/v1/jobs/{id}`.",
        "019ab2f4-6c1e-7d30-9a52-3f8e1c7b4d60",
    ),
    "X-Should-Retry": Header(
        "`false` where asking again would only bring the same; OpenAI's clients heed it.", "false"
    ),
}


def headers_at(status: str) -> tuple[str, ...]:
    """The headers of every answer of that status."""
    match status:
        case "401":
            return (REQUEST_ID, "WWW-Authenticate")
        case "429" | "503":
            return (REQUEST_ID, "Retry-After")
        case _:
            return (REQUEST_ID,)
