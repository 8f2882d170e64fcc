"""The door: prices every job, and refuses more than can be drawn in time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from serve.database import Database, DatabaseUnavailable
from serve.jobs import repository
from serve.jobs.backlog import Backlog, backlog_of
from serve.jobs.errors import Overloaded
from serve.jobs.price import Price, PriceList
from serve.jobs.request import JobRequest

log = structlog.get_logger(__name__)

_FRESH_S = 0.5
_SPREAD = 0.25  # so that those who were refused together do not come back together


@dataclass(frozen=True, slots=True)
class _View:
    """What Postgres said, and when, on this process's clock."""

    prices: PriceList
    backlog: Backlog
    read_at: float


class Admission:
    """Knows the backlog to half a second, so that to refuse takes no query.

    Between two looks it counts what it let in itself. Other processes' jobs it learns of with the
    next look: together they let in at most what they accept within half a second too much.
    """

    def __init__(self, database: Database, models: Sequence[str], max_wait_s: float) -> None:
        """``models`` are all that are served, the default one first."""
        self._database = database
        self._models = models
        self._max_wait_s = max_wait_s
        self._view: _View | None = None
        self._underway_s = 0.0  # let in, and not in Postgres yet
        self._accepted_s = 0.0  # in Postgres since the last look began
        self._looking: asyncio.Task[_View] | None = None

    async def view(self) -> tuple[PriceList, Backlog]:
        """Prices and backlog, half a second old at most as long as Postgres answers.

        Raises:
            DatabaseUnavailable: it never has.
        """
        view = self._view
        if view is None or monotonic() - view.read_at > _FRESH_S:
            self._looking = self._looking or asyncio.create_task(self._look())
            if view is None:
                view = await asyncio.shield(self._looking)
        return view.prices, view.backlog

    async def price(self, request: JobRequest) -> Price:
        """Of each picture of the job."""
        prices, _ = await self.view()
        return prices.price(request)

    async def admit(self, device_s: float) -> None:
        """Let in a job of so many device seconds, which counts from here on. Say `settle` after it.

        Raises:
            Overloaded: it would wait too long.
        """
        await self.check()
        self._underway_s += device_s

    def settle(self, device_s: float, *, accepted: bool) -> None:
        """What was let in is in Postgres now, or has come to nothing.

        Until then no look can see it: were it forgotten with the next one, a database that is slow
        to take jobs would have ever more of them let in.
        """
        self._underway_s -= device_s
        if accepted:
            self._accepted_s += device_s

    async def check(self) -> None:
        """See that a job would be let in by now; it does not count.

        Raises:
            Overloaded: it would wait too long.
        """
        _, backlog = await self.view()
        wait = backlog.wait_s(self._underway_s + self._accepted_s)
        if wait > self._max_wait_s:
            over = (wait - self._max_wait_s) * (1 + _SPREAD * random.random())  # noqa: S311
            raise Overloaded(
                f"About {wait:.0f} s of work wait already, and {self._max_wait_s:g} s are the most"
                " that is accepted; try again later.",
                retry_after_s=max(1, math.ceil(over)),
            )

    async def _look(self) -> _View:
        accepted = self._accepted_s
        try:
            async with self._database.transaction() as session:
                prices = PriceList.of(await repository.load_profiles(session))
                backlog = await backlog_of(session, self._models)
        except DatabaseUnavailable as error:
            if self._view is None:
                raise
            log.warning("admission.database_unavailable", error=error.message)
            return self._view
        else:
            self._view = _View(prices, backlog, monotonic())
            self._accepted_s -= accepted
            return self._view
        finally:
            self._looking = None
