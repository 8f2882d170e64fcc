"""What a file says of how its picture was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Origin:
    """Read from a file, so perhaps a stranger's words.

    ``parameters`` are fields of `POST /v1/jobs`, by its names. ``other`` is what has no field
    there, as the software called it. ``created_at`` is when the picture was asked for, in ISO 8601.
    """

    software: str
    parameters: Mapping[str, Any]
    other: Mapping[str, str] = field(default_factory=dict)
    created_at: str | None = None
