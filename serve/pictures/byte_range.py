"""RFC 9110's byte ranges: which part of a file is asked for."""

from __future__ import annotations

import re

from serve.pictures.errors import RangeNotSatisfiable

# One range: a longer header, or one of several ranges, isn't even looked through.
_ONE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)


def asked_range(header: str | None, size: int) -> range | None:
    """The bytes of a file of ``size`` bytes that a Range header asks for; None is for all of them.

    What may be ignored is (14.2): several ranges, other units than bytes, and what is none at all.

    Raises:
        RangeNotSatisfiable: the file has none of these bytes.
    """
    match = _ONE.fullmatch(header or "")
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


def still_current(if_range: str | None, etag: str) -> bool:
    """Whether a client's part is of this very file: a weak tag or a date never says so."""
    return if_range is None or if_range.strip() == etag
