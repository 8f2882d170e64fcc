"""The door: prices every job, and refuses those whose turn would come too late."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

import structlog

from serve.database import Database, DatabaseUnavailable, Session
from serve.jobs import repository
from serve.jobs.backlog import Backlog
from serve.jobs.errors import Overloaded
from serve.jobs.price import Price, PriceList
from serve.jobs.request import JobRequest
from serve.jobs.turns import UNKNOWN, Newcomer, Place, Turns, Wait
from serve.tables import JobState

log = structlog.get_logger(__name__)

_FRESH_S = 0.5
_MOST_OF_TIME = 0.1
"""A long queue takes longer to read: it is read less often, so that reading takes no more."""
_LOOK_S = 1.0
"""The longest wait for a look before a job is refused by an older one."""
_SPREAD = 0.25  # so that those who were refused together do not come back together
_NOTHING_S = 1e-6  # what sums of seconds may be off by


@dataclass(frozen=True, slots=True)
class _View:
    """What Postgres said, and until when it counts as fresh, on this process's clock."""

    prices: PriceList
    backlog: Backlog
    turns: Turns
    slots: int
    """Places in the steps of all workers."""
    fresh_until: float


class Admission:
    """Knows every tenant's queue to half a second, so that to refuse takes no query.

    Between two looks it counts what it let in itself. Other processes' jobs it learns of with the
    next look: together they let in at most what they accept within half a second too much.
    """

    def __init__(self, database: Database, models: Sequence[str], max_wait_s: float) -> None:
        """``models`` are all that are served, the default one first."""
        self._database = database
        self._models = models
        self._max_wait_s = max_wait_s
        self._view: _View | None = None
        self._underway_s: dict[Place, float] = defaultdict(float)
        """Let in, and not in Postgres yet."""
        self._accepted_s: dict[Place, float] = defaultdict(float)
        """In Postgres since the last look began."""
        self._looking: asyncio.Task[_View] | None = None

    async def view(self) -> tuple[PriceList, Backlog]:
        """Prices and backlog, half a second old at most as long as Postgres answers soon.

        Raises:
            DatabaseUnavailable: it never has.
        """
        view = await self._seen()
        return view.prices, view.backlog

    async def price(self, request: JobRequest) -> Price:
        """Of each picture of the job."""
        return (await self._seen()).prices.price(request)

    async def admit(self, newcomer: Newcomer) -> None:
        """Let in a job, which counts from here on. Say `settle` after it.

        Raises:
            Overloaded: its turn would come too late.
        """
        await self.check(newcomer)
        self._underway_s[newcomer.place] += newcomer.seconds

    def settle(self, newcomer: Newcomer, *, accepted: bool) -> None:
        """What was let in is in Postgres now, or has come to nothing.

        Until then no look can see it: were it forgotten with the next one, a database that is slow
        to take jobs would have ever more of them let in.
        """
        _take(self._underway_s, newcomer.place, newcomer.seconds)
        if accepted:
            self._accepted_s[newcomer.place] += newcomer.seconds

    async def check(self, newcomer: Newcomer) -> None:
        """See that a job would be let in by now; it does not count.

        Raises:
            Overloaded: its turn would come too late.
        """
        view = await self._seen()
        wait = self._wait(view, newcomer)
        if self._too_long(view, wait) and monotonic() > view.fresh_until + _FRESH_S:
            view = await self._looked()  # nobody has asked for a while
            wait = self._wait(view, newcomer)
        tenant_id = newcomer.place.tenant_id
        if self._too_long(view, wait) and wait.others_s and not view.turns.knows(tenant_id):
            await self._learn_turn(view, tenant_id)
            wait = self._wait(view, newcomer)
        if self._too_long(view, wait):
            wait_s = view.backlog.begun_in_s(wait.seconds)
            over = (wait_s - self._max_wait_s) * (1 + _SPREAD * random.random())  # noqa: S311
            raise Overloaded(
                f"This job would wait about {wait_s:.0f} s for its turn, and {self._max_wait_s:g} s"
                " are the most that is accepted; try again later.",
                retry_after_s=max(1, math.ceil(over)),
            )

    def _wait(self, view: _View, newcomer: Newcomer) -> Wait:
        let_in = defaultdict(float, self._accepted_s)
        for place, seconds in self._underway_s.items():
            let_in[place] += seconds
        return view.turns.wait(newcomer, let_in)

    def _too_long(self, view: _View, wait: Wait) -> bool:
        return not wait.within(view.slots) and (
            view.backlog.begun_in_s(wait.seconds) > self._max_wait_s
        )

    async def _learn_turn(self, view: _View, tenant_id: UUID) -> None:
        """Of a tenant that has nothing queued; without a word from Postgres it is the last."""
        try:
            async with self._database.transaction() as session:
                ring = await repository.read_ring(session, [tenant_id])
        except DatabaseUnavailable as error:
            log.warning("admission.database_unavailable", error=error.message)
        else:
            view.turns.learn(tenant_id, ring.get(tenant_id, UNKNOWN))

    async def _seen(self) -> _View:
        view = self._view
        if view is None or monotonic() > view.fresh_until:
            self._looking = self._looking or asyncio.create_task(self._look())
            if view is None:
                view = await asyncio.shield(self._looking)
        return view

    async def _looked(self) -> _View:
        """The view once the look under way is over; the older one if Postgres takes too long."""
        if self._looking:
            await asyncio.wait({self._looking}, timeout=_LOOK_S)
        return self._view or await self._seen()

    async def _look(self) -> _View:
        began = monotonic()
        accepted = dict(self._accepted_s)
        try:
            async with self._database.transaction() as session:
                view = await self._read(session, began)
        except DatabaseUnavailable as error:
            if self._view is None:
                raise
            log.warning("admission.database_unavailable", error=error.message)
            return self._view
        else:
            self._view = view
            for place, seconds in accepted.items():
                _take(self._accepted_s, place, seconds)
            return self._view
        finally:
            self._looking = None

    async def _read(self, session: Session, began: float) -> _View:
        prices = PriceList.of(await repository.load_profiles(session))
        waiting = await repository.read_waiting(session, self._models)
        ring = await repository.read_ring(session, {place.tenant_id for place in waiting})
        running, running_s = await repository.read_work(session, self._models, JobState.RUNNING)
        workers, slots = await repository.claiming_slots(session, self._models[0])
        backlog = Backlog(
            queued=sum(each.count for each in waiting.values()),
            running=running,
            queued_s=sum(each.seconds for each in waiting.values()),
            running_s=running_s,
            workers=workers,
            measured=self._models[0] in prices,
        )
        now = monotonic()
        fresh_until = now + max(_FRESH_S, (now - began) / _MOST_OF_TIME)
        return _View(prices, backlog, Turns(ring, waiting), slots, fresh_until)


def _take(counted: dict[Place, float], place: Place, seconds: float) -> None:
    counted[place] -= seconds
    if counted[place] < _NOTHING_S:
        del counted[place]
