"""Text of a client's, sent back."""

from __future__ import annotations


def printable(text: str, limit: int = 1000) -> str:
    """No lone surrogates, which UTF-8 cannot hold, and not endless."""
    return text[:limit].encode("utf-8", "replace").decode()
