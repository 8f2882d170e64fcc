"""JSON that comes in: how deep it is nested, and files that stand in it as data URLs."""

from __future__ import annotations

import base64
import re
from itertools import accumulate

from serve.http.errors import InvalidJson, InvalidValue, JsonTooDeep

MAX_DEPTH = 32
_JSON = re.compile(r"application/([^;\s]+\+)?json\s*(;|$)", re.IGNORECASE)
# To its end, or to the body's, so that each byte is looked at once.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_MEANINGLESS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_json(content_type: str) -> bool:
    return bool(_JSON.match(content_type.strip()))


def check_json(content_type: str, body: bytes) -> None:
    """Check that JSON is UTF-8, and nested no deeper than any body of this API.

    Raises:
        InvalidJson: it is not UTF-8.
        JsonTooDeep: it is.
    """
    if not is_json(content_type):
        return
    if (place := body.find(b"\x00")) >= 0:  # or UTF-16, which Python's parser would take
        raise InvalidJson(
            f"The body's JSON must be UTF-8 without NUL bytes; byte {place} of {len(body)} is one."
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(
            f"The body's JSON must be UTF-8; byte {error.start} of {len(body)} is not."
        ) from error
    if deeper_than(MAX_DEPTH, body):
        raise JsonTooDeep(f"The body's JSON is nested deeper than {MAX_DEPTH} levels.")


def deeper_than(limit: int, body: bytes) -> bool:
    """Whether arrays and objects nest deeper; brackets within strings do not count."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", body).translate(None, delete=_MEANINGLESS)
    return any(depth > limit for depth in accumulate(map(_STEPS.__getitem__, brackets)))


DATA_URL = "data:image/"
_BLANKS = b" \t\r\n"  # as `base64` wraps its lines


def file_of_data_url(url: str, field: str) -> bytes:
    """The file's bytes. What it is its content tells; the media type is not looked at.

    Raises:
        InvalidValue: it is not base64.
    """
    head, _, text = url.partition(";base64,")
    try:
        return base64.b64decode(text.encode().translate(None, _BLANKS), validate=True)
    except ValueError as error:
        raise InvalidValue(
            f"{field}: what follows `{head[:40]};base64,` is not base64.", param=field
        ) from error
