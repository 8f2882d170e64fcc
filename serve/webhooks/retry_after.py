"""The `Retry-After` of an answer (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_S = 24 * 3600.0
"""No receiver puts a delivery off for longer at a time."""
_SECONDS = re.compile(r"[0-9]+", re.ASCII)
_MOST_DIGITS = 9


def retry_after_s(text: str, now: datetime) -> float:
    """Seconds from ``now`` on, 0 to `MOST_S`; 0 where the text is neither seconds nor a date."""
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text.lstrip("0")[:_MOST_DIGITS] or 0), MOST_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), MOST_S)
