"""What the post-process step tells of a file it stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a picture, as it lies in storage; ``size`` in bytes, ``sha256`` in hex."""

    name: str
    media_type: str
    width: int
    height: int
    size: int
    sha256: str
    storage_key: str
