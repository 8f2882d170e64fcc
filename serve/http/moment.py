"""Times as clients tell them: ISO 8601 text, never a number."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field

_DAY_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _dated(value: Any) -> Any:
    """Pydantic would take `0.5` for half a second after 1970 began."""
    if isinstance(value, str) and not _DAY_FIRST.match(value):
        raise ValueError("must begin with a day like 2026-11-24")
    return value


# What Postgres, Python and a UUIDv7 all can hold in every time zone.
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9000, 1, 1, tzinfo=UTC)),
    BeforeValidator(_dated),
]
Day = Annotated[date, BeforeValidator(_dated)]
