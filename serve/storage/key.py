"""Which strings are keys of objects."""

from __future__ import annotations

import re

from serve.storage.errors import InvalidKey

# Segments of letters, digits, `-`, `_` and `.`, none of which starts with a dot.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
_LONGEST_KEY = 512


def is_key(text: str) -> bool:
    """Whether it names one object inside a storage."""
    return len(text) <= _LONGEST_KEY and _KEY.fullmatch(text) is not None


def checked(key: str) -> str:
    """The key itself, once it is known to name one object inside the storage.

    Raises:
        InvalidKey: it doesn't.
    """
    if not is_key(key):
        raise InvalidKey(
            f"{key[:80]!r} is no key: use at most {_LONGEST_KEY} letters, digits, '-', '_', '.' "
            "and '/', and start no segment with a dot."
        )
    return key
