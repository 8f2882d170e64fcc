"""Batches in few sizes, so that each is compiled or captured once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def padded(rows: Sequence[T], buckets: Sequence[int]) -> list[T]:
    """``rows`` and then the last of them again, up to the smallest bucket that takes them all.

    Rows do not see each other, so that the added ones change nothing. More rows than any bucket
    takes stay as they are, and so does none.
    """
    size = min((each for each in buckets if each >= len(rows)), default=len(rows))
    return [*rows, *(last for last in rows[-1:] for _ in range(size - len(rows)))]
