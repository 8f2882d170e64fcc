"""Letting a job in: quota, rate and backlog are checked, taken and given back in one place."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar
from uuid import UUID

import structlog

from serve.access.ledger import InsufficientQuota, Ledger
from serve.access.rate_limit import RateLimitExceeded, RateLimits
from serve.database import Database, DatabaseUnavailable, Session
from serve.jobs import repository
from serve.jobs.backlog import Backlog
from serve.jobs.errors import Overloaded
from serve.jobs.price import Price, PriceList
from serve.jobs.request import JobRequest
from serve.jobs.turns import UNKNOWN_TURN, PredictedWait, PricedJob, QueuePosition, Turns
from serve.settings import Settings
from serve.tables import Job, JobState

log = structlog.get_logger(__name__)

_FRESH_S = 0.5
_MAX_SHARE_OF_TIME = 0.1
"""A long queue takes longer to read. It is read less often, so that reading takes no more."""
_REFRESH_WAIT_S = 1.0
"""The longest wait for a fresh snapshot before an older one decides."""
_JITTER = 0.25  # so that clients that were refused together do not return together
_ROUNDING_S = 1e-6  # what sums of seconds may be off by


@dataclass(slots=True)
class Reservation:
    """A job's place, held until the job is accepted or the block of `Admission.reserve` ends."""

    job: PricedJob
    price: Price
    ledger: Ledger
    accepted: bool = field(default=False, init=False)

    async def charge(self, session: Session, row: Job) -> None:
        """Count the job against the month's quota: the last statement of its transaction.

        Raises:
            InsufficientQuota: the quota does not cover it; the transaction must be rolled back.
        """
        await self.ledger.charge(session, row, self.job.seconds)

    def accept(self) -> None:
        """The job is committed: what it takes is not given back."""
        self.accepted = True


class Admission:
    """Decides which jobs are let in.

    A job needs three things: GPU seconds of its tenant's month (``ledger``), GPU seconds of its
    tenant's rate (``rates``), and a turn that comes soon enough (``queue``). A refusal takes no
    query.
    """

    REFUSALS: ClassVar = (InsufficientQuota, RateLimitExceeded, Overloaded)

    def __init__(self, database: Database, settings: Settings) -> None:
        self.rates = RateLimits(database, settings)
        self.ledger = Ledger(database, self.rates.tenants)
        self.queue = QueueView(database, list(settings.served), settings.jobs.max_wait_s)

    @asynccontextmanager
    async def reserve(self, tenant_id: UUID, request: JobRequest) -> AsyncIterator[Reservation]:
        """Take what the job needs. All of it is given back unless the block accepts the job.

        Raises:
            InsufficientQuota: the tenant's month is used up.
            RateLimitExceeded: the tenant asks for too much at a time.
            Overloaded: the job's turn would come too late.
        """
        price = await self.queue.price(request)
        job = PricedJob.of(tenant_id, request, price)
        reservation = Reservation(job, price, self.ledger)
        await self.ledger.check(tenant_id, job.seconds)
        await self.rates.spend(tenant_id, job.seconds)
        try:
            await self.queue.check(job)
            self.queue.add(job)
            try:
                yield reservation
            finally:
                self.queue.release(job, accepted=reservation.accepted)
        finally:
            if not reservation.accepted:
                await self.rates.give_back(tenant_id, job.seconds)

    async def precheck(self, tenant_id: UUID, request: JobRequest) -> None:
        """Check what `reserve` checks, and take nothing. Raises the same errors."""
        job = PricedJob.of(tenant_id, request, await self.queue.price(request))
        await self.ledger.check(tenant_id, job.seconds)
        await self.rates.check_spending(tenant_id, job.seconds)
        await self.queue.check(job)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What Postgres held, and until when it counts as fresh, on this process's clock."""

    prices: PriceList
    backlog: Backlog
    turns: Turns
    slots: int
    """Places in the steps of all workers."""
    fresh_until: float


class QueueView:
    """Every tenant's queue, half a second old at most as long as Postgres answers soon.

    Between two snapshots it counts the jobs that this process lets in. It learns of other
    processes' jobs with the next snapshot: together the processes let in at most what they accept
    within half a second too much.
    """

    def __init__(self, database: Database, models: Sequence[str], max_wait_s: float) -> None:
        """``models`` are all that are served, the default one first."""
        self._database = database
        self._models = models
        self._max_wait_s = max_wait_s
        self._snapshot: _Snapshot | None = None
        self._uncommitted_s: dict[QueuePosition, float] = defaultdict(float)
        """Of jobs that are let in and not in Postgres yet."""
        self._committed_s: dict[QueuePosition, float] = defaultdict(float)
        """Of jobs that came into Postgres since the last snapshot began."""
        self._refreshing: asyncio.Task[_Snapshot] | None = None

    async def read(self) -> tuple[PriceList, Backlog]:
        """Prices and backlog.

        Raises:
            DatabaseUnavailable: Postgres has never answered.
        """
        snapshot = await self._current()
        return snapshot.prices, snapshot.backlog

    async def price(self, request: JobRequest) -> Price:
        """Of each picture of the job."""
        return (await self._current()).prices.price(request)

    async def check(self, job: PricedJob) -> None:
        """Predict when the job's turn comes; the job is not counted.

        Raises:
            Overloaded: its turn would come too late.
        """
        snapshot = await self._current()
        wait = self._predict(snapshot, job)
        if self._is_too_long(snapshot, wait) and monotonic() > snapshot.fresh_until + _FRESH_S:
            snapshot = await self._refreshed()  # there was no request for a while
            wait = self._predict(snapshot, job)
        tenant_id = job.position.tenant_id
        if (
            self._is_too_long(snapshot, wait)
            and wait.others_s
            and not snapshot.turns.knows(tenant_id)
        ):
            await self._read_turn(snapshot, tenant_id)
            wait = self._predict(snapshot, job)
        if self._is_too_long(snapshot, wait):
            wait_s = snapshot.backlog.begun_in_s(wait.seconds)
            excess_s = (wait_s - self._max_wait_s) * (1 + _JITTER * random.random())  # noqa: S311
            raise Overloaded(
                f"This job would wait about {wait_s:.0f} s for its turn, and {self._max_wait_s:g} s"
                " are the most that is accepted; try again later.",
                retry_after_s=max(1, math.ceil(excess_s)),
            )

    def add(self, job: PricedJob) -> None:
        """Count a job that is let in, until `release`."""
        self._uncommitted_s[job.position] += job.seconds

    def release(self, job: PricedJob, *, accepted: bool) -> None:
        """The job is in Postgres now (``accepted``), or will never be.

        Until then no snapshot can contain it. If it were dropped with the next snapshot, a database
        that is slow to commit would have ever more jobs let in.
        """
        _subtract(self._uncommitted_s, job.position, job.seconds)
        if accepted:
            self._committed_s[job.position] += job.seconds

    def _predict(self, snapshot: _Snapshot, job: PricedJob) -> PredictedWait:
        added_s = defaultdict(float, self._committed_s)
        for position, seconds in self._uncommitted_s.items():
            added_s[position] += seconds
        return snapshot.turns.wait(job, added_s)

    def _is_too_long(self, snapshot: _Snapshot, wait: PredictedWait) -> bool:
        return not wait.is_within(snapshot.slots) and (
            snapshot.backlog.begun_in_s(wait.seconds) > self._max_wait_s
        )

    async def _read_turn(self, snapshot: _Snapshot, tenant_id: UUID) -> None:
        """Of a tenant that has nothing queued. It is the last if Postgres does not answer."""
        try:
            async with self._database.transaction() as session:
                turns = await repository.read_turns(session, [tenant_id])
        except DatabaseUnavailable as error:
            log.warning("admission.database_unavailable", error=error.message)
        else:
            snapshot.turns.add(tenant_id, turns.get(tenant_id, UNKNOWN_TURN))

    async def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is None or monotonic() > snapshot.fresh_until:
            self._refreshing = self._refreshing or asyncio.create_task(self._refresh())
            if snapshot is None:
                snapshot = await asyncio.shield(self._refreshing)
        return snapshot

    async def _refreshed(self) -> _Snapshot:
        """The next snapshot, or the older one if Postgres takes too long."""
        if self._refreshing:
            await asyncio.wait({self._refreshing}, timeout=_REFRESH_WAIT_S)
        return self._snapshot or await self._current()

    async def _refresh(self) -> _Snapshot:
        began = monotonic()
        committed_before = dict(self._committed_s)
        try:
            async with self._database.transaction() as session:
                snapshot = await self._read(session, began)
        except DatabaseUnavailable as error:
            if self._snapshot is None:
                raise
            log.warning("admission.database_unavailable", error=error.message)
            return self._snapshot
        else:
            self._snapshot = snapshot
            for position, seconds in committed_before.items():
                _subtract(self._committed_s, position, seconds)
            return snapshot
        finally:
            self._refreshing = None

    async def _read(self, session: Session, began: float) -> _Snapshot:
        models = self._models
        prices = PriceList.of(await repository.load_profiles(session))
        queued = await repository.read_queued(session, models)
        tenant_ids = {position.tenant_id for position in queued}
        turns = await repository.read_turns(session, tenant_ids)
        running, running_s = await repository.read_work(session, models, JobState.RUNNING)
        workers, slots = await repository.claiming_slots(session, models[0])
        backlog = Backlog(
            queued=sum(pictures.count for pictures in queued.values()),
            running=running,
            queued_s=sum(pictures.seconds for pictures in queued.values()),
            running_s=running_s,
            workers=workers,
            measured=models[0] in prices,
        )
        now = monotonic()
        fresh_until = now + max(_FRESH_S, (now - began) / _MAX_SHARE_OF_TIME)
        return _Snapshot(prices, backlog, Turns(turns, queued), slots, fresh_until)


def _subtract(sums: dict[QueuePosition, float], position: QueuePosition, seconds: float) -> None:
    sums[position] -= seconds
    if sums[position] < _ROUNDING_S:
        del sums[position]
