"""What is asked for and liked, and how that changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from uuid import UUID

from serve.database import Database
from serve.settings import TrendSettings
from serve.trends import repository
from serve.trends.terms import TermKind


class Window(StrEnum):
    """How far back it looks."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def length(self) -> timedelta:
        return _LENGTHS[self]


_LENGTHS = {
    Window.HOUR: timedelta(hours=1),
    Window.DAY: timedelta(days=1),
    Window.WEEK: timedelta(days=7),
}


class Order(StrEnum):
    """What comes first."""

    RISING = "rising"
    TOP = "top"


@dataclass(frozen=True, slots=True)
class Trend:
    """A term within a window."""

    kind: TermKind
    term: str
    asked: int
    favoured: int
    downloaded: int
    score: float
    """All of these, weighted, with a half-life of half the window."""
    rise: float
    """By how many standard deviations it is above what was to be expected; below 0 it falls."""


class Trends:
    """Of one tenant, or of all together."""

    def __init__(self, database: Database, settings: TrendSettings) -> None:
        self._database = database
        self._settings = settings

    async def list(
        self,
        tenant_id: UUID | None,
        window: Window,
        *,
        kind: TermKind | None = None,
        order: Order = Order.RISING,
        limit: int = 20,
    ) -> Sequence[Trend]:
        """Of all tenants (None) those terms alone that enough of them have."""
        least = 1 if tenant_id else self._settings.k
        async with self._database.transaction() as session:
            rows = await repository.read_counts(session, window.length, tenant_id, least)
        trends = [
            Trend(
                kind=TermKind(row.kind),
                term=row.term,
                asked=row.asked,
                favoured=row.favoured,
                downloaded=row.downloaded,
                score=round(float(row.decayed), 3),
                # Of a Poisson process, whose variance is its mean; 1 keeps what is new finite.
                rise=round((row.weight - float(row.before)) / math.sqrt(float(row.before) + 1), 3),
            )
            for row in rows
            if kind in (None, row.kind)
        ]
        return sorted(trends, key=partial(_rank, order))[:limit]


def _rank(order: Order, trend: Trend) -> tuple[float, str]:
    """The least comes first."""
    return -(trend.rise if order is Order.RISING else trend.score), trend.term
