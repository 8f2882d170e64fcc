"""What makes a term count."""

from __future__ import annotations

from enum import StrEnum


class SignalKind(StrEnum):
    """What somebody did; the values are columns of `term_counts`."""

    ASKED = "asked"
    FAVOURED = "favoured"
    DOWNLOADED = "downloaded"
