"""The outcome of one check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """``cure`` is empty where nothing is wrong."""

    name: str
    state: str
    cure: str = ""
