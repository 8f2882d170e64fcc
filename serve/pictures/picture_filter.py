"""Which pictures of a tenant are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFilter:
    """All that is given must hold; None is for any.

    ``words`` is for Postgres' ``websearch_to_tsquery``, folded as prompts are. ``created_after`` is
    the first moment that counts, ``created_before`` the first that no longer does; both with a time
    zone.
    """

    words: str | None = None
    model: str | None = None
    seed: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    favourite: bool | None = None
