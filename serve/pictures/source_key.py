"""Where in storage a picture lies that a client sent in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

_KEY = re.compile(r"sources/([0-9a-f-]{36})/([0-9a-f]{64})\.png")


@dataclass(frozen=True, slots=True, order=True)
class SourceKey:
    """By the SHA-256 of the file, in hex: the same picture twice is one file, within a tenant."""

    tenant_id: UUID
    sha256: str

    def __str__(self) -> str:
        return f"sources/{self.tenant_id}/{self.sha256}.png"

    @classmethod
    def parse(cls, key: str) -> SourceKey | None:
        """None where the key is not of a source."""
        match = _KEY.fullmatch(key)
        try:
            return cls(UUID(match[1]), match[2]) if match else None
        except ValueError:
            return None
