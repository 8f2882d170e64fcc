"""Counts the terms of what was asked for, liked and saved."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

import structlog

from serve.answer_cache import EVERYBODY, AnswerCache, Cached
from serve.database import Database, DatabaseUnavailable
from serve.settings import TrendSettings
from serve.supervise import RoundDone, ignore_round
from serve.trends import repository
from serve.trends.signal import SignalKind
from serve.trends.terms import Term, terms_of

log = structlog.get_logger(__name__)

EVERY_S = 2.0
_AT_ONCE = 500
_FORGET_EVERY_S = 3600.0


class TermCounter:
    """Runs in every ingress; each signal is counted by one of them, once."""

    def __init__(self, database: Database, settings: TrendSettings, answers: AnswerCache) -> None:
        self._database = database
        self._answers = answers
        self._settings = settings
        self._forgot_at = monotonic()

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Count until cancelled."""
        while True:
            try:
                more = await self.count()
                if monotonic() - self._forgot_at > _FORGET_EVERY_S:
                    await self.forget()
                round_done()
            except DatabaseUnavailable as error:
                log.warning("trends.database_unavailable", error=error.message)
                more = False
            if not more:
                await asyncio.sleep(EVERY_S)

    async def count(self) -> bool:
        """One transaction; whether there may be more to count."""
        async with self._database.transaction() as session:
            noted = await repository.take_signals(session, _AT_ONCE)
            counts: dict[tuple[UUID, datetime, Term], Counter[SignalKind]] = defaultdict(Counter)
            for signal in noted:
                for term in terms_of(signal.prompt):
                    counts[signal.tenant_id, signal.since, term][signal.kind] += 1
            await repository.add_counts(session, counts)
        if counts:
            tenants = {tenant_id for tenant_id, _, _ in counts}
            await self._answers.forget(Cached.TRENDS, EVERYBODY, *tenants)
        return len(noted) == _AT_ONCE

    async def forget(self) -> None:
        """Delete counts that are too old to be shown."""
        async with self._database.transaction() as session:
            await repository.forget_counts(session, timedelta(days=self._settings.keep_days))
        self._forgot_at = monotonic()
