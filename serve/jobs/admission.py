"""Letting a job in: quota, rate and backlog are checked, taken and given back in one place."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import ClassVar
from uuid import UUID

import structlog

from serve.access.ledger import InsufficientQuota, Ledger
from serve.access.rate_limit import Policy, RateLimitExceeded, RateLimits
from serve.database import Database, DatabaseUnavailable, Session
from serve.jobs import repository
from serve.jobs.backlog import Backlog
from serve.jobs.errors import ModelNotFound, Overloaded
from serve.jobs.price import PriceList
from serve.jobs.request import JobRequest
from serve.jobs.turns import UNKNOWN_TURN, PredictedWait, PricedJob, QueuePosition, Turns
from serve.observability.meter import UNMETERED, Meter
from serve.settings import DEFAULT_POOL, Settings
from serve.tables import JobState

log = structlog.get_logger(__name__)

_FRESH_S = 0.5
_MAX_SHARE_OF_TIME = 0.1
"""A long queue takes longer to read. It is read less often, so that reading takes no more."""
_REFRESH_WAIT_S = 1.0
"""The longest wait for a fresh snapshot before an older one decides."""
_JITTER = 0.25  # so that clients that were refused together do not return together


@dataclass(slots=True)
class Reservation:
    """A job's place, held until it is ``accepted`` or the block of `Admission.reserve` ends."""

    job: PricedJob
    accepted: bool = False


class Admission:
    """Decides which jobs are let in.

    A job needs three things: GPU seconds of its tenant's month (``ledger``), GPU seconds of its
    tenant's rate (``rates``), and a turn that comes soon enough in its model's pool (``queues``). A
    refusal takes no query.
    """

    REFUSALS: ClassVar = (InsufficientQuota, RateLimitExceeded, Overloaded)

    def __init__(self, database: Database, settings: Settings, meter: Meter = UNMETERED) -> None:
        self.rates = RateLimits(database, settings, meter)
        self.ledger = Ledger(database, self.rates.tenants)
        self.queues = {
            name: QueueView(database, pool.models, settings.jobs.max_wait_s, name)
            for name, pool in settings.served_pools.items()
        }
        self._pool_of = settings.pool_of
        self.path_of = _paths(settings)
        """Each model's, by its name."""

    def follow(self, settings: Settings, active: Mapping[str, Sequence[str]]) -> None:
        """Models have changed; ``active`` are those of each pool that are drawn with."""
        self._pool_of, self.path_of = settings.pool_of, _paths(settings)
        for name, queue in self.queues.items():
            queue.models = active[name]

    def pool_of(self, model: str) -> str:
        """Empty if the model is not served any more."""
        return self._pool_of.get(model, "")

    def _queue_of(self, request: JobRequest) -> QueueView:
        pool = self._pool_of.get(request.model)
        if pool is None:  # it was removed since the request was validated
            raise ModelNotFound(f"The model {request.model!r} is not served any more.")
        return self.queues[pool]

    @asynccontextmanager
    async def reserve(self, tenant_id: UUID, request: JobRequest) -> AsyncIterator[Reservation]:
        """Take what the job needs. All of it is given back unless the block accepts the job.

        Raises:
            InsufficientQuota: the tenant's month is used up.
            RateLimitExceeded: the tenant asks for too much at a time.
            Overloaded: the job's turn would come too late.
            ModelNotFound: its model was removed meanwhile.
        """
        queue = self._queue_of(request)
        job = await queue.price(tenant_id, request)
        reservation = Reservation(job)
        await self.ledger.check(tenant_id, job.seconds)
        await self.rates.take(tenant_id, Policy.GPU_SECONDS, job.seconds)
        try:
            await queue.check(job)
            with queue.counting(reservation):
                yield reservation
        finally:
            if not reservation.accepted:
                await self.rates.take(tenant_id, Policy.GPU_SECONDS, -job.seconds)

    async def precheck(self, tenant_id: UUID, request: JobRequest) -> None:
        """Check what `reserve` checks, and take nothing. Raises the same errors."""
        queue = self._queue_of(request)
        job = await queue.price(tenant_id, request)
        await self.ledger.check(tenant_id, job.seconds)
        await self.rates.take(tenant_id, Policy.GPU_SECONDS, job.seconds, check_only=True)
        await queue.check(job)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Postgres held, and until when it counts as fresh, on this process's clock."""

    prices: PriceList
    backlog: Backlog
    turns: Turns
    slots: int
    """Places in the steps of all workers."""
    fresh_until: float


class QueueView:
    """Every tenant's queue for a pool, half a second old at most as long as Postgres answers soon.

    Between two snapshots it counts the jobs that this process lets in. It learns of other
    processes' jobs with the next snapshot: together the processes let in at most what they accept
    within half a second too much.
    """

    def __init__(
        self,
        database: Database,
        models: Sequence[str],
        max_wait_s: float,
        pool: str = DEFAULT_POOL,
    ) -> None:
        """``models`` are those of the pool; they may change."""
        self._database = database
        self.models = models
        self._max_wait_s = max_wait_s
        self._pool = pool
        self._snapshot: Snapshot | None = None
        self._uncommitted: Counter[PricedJob] = Counter()
        """Jobs that are let in and not in Postgres yet."""
        self._committed: Counter[PricedJob] = Counter()
        """Jobs that came into Postgres since the last snapshot began."""
        self._refreshing: asyncio.Task[Snapshot] | None = None

    async def read(self) -> Snapshot:
        """The last snapshot; the next one is on its way where it is not fresh.

        Raises:
            DatabaseUnavailable: Postgres has never answered.
        """
        snapshot = self._snapshot
        if snapshot is None or monotonic() > snapshot.fresh_until:
            self._refreshing = self._refreshing or asyncio.create_task(self._refresh())
            if snapshot is None:
                snapshot = await asyncio.shield(self._refreshing)
        return snapshot

    async def price(self, tenant_id: UUID, request: JobRequest) -> PricedJob:
        """The job at the prices of now."""
        return PricedJob.of(tenant_id, request, (await self.read()).prices.price(request))

    async def check(self, job: PricedJob) -> None:
        """Predict when the job's turn comes; the job is not counted.

        Raises:
            Overloaded: its turn would come too late.
        """
        snapshot = await self.read()
        wait = self._predict(snapshot, job)
        if self._is_too_long(snapshot, wait) and monotonic() > snapshot.fresh_until + _FRESH_S:
            if self._refreshing:  # there was no request for a while
                await asyncio.wait({self._refreshing}, timeout=_REFRESH_WAIT_S)
            snapshot = self._snapshot or snapshot
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
                f"This job would wait about {wait_s:.0f} s for its turn{self._where}, and"
                f" {self._max_wait_s:g} s are the most that is accepted; try again later.",
                retry_after_s=max(1, math.ceil(excess_s)),
            )

    @contextmanager
    def counting(self, reservation: Reservation) -> Iterator[None]:
        """Count a job that is let in, until a snapshot contains it or it is not accepted.

        Before it is in Postgres no snapshot can contain it. If it were dropped with the next one, a
        database that is slow to commit would have ever more jobs let in.
        """
        self._uncommitted[reservation.job] += 1
        try:
            yield
        finally:
            self._uncommitted -= Counter([reservation.job])
            if reservation.accepted:
                self._committed[reservation.job] += 1

    @property
    def _where(self) -> str:
        return "" if self._pool == DEFAULT_POOL else f" in the pool {self._pool!r}"

    def _predict(self, snapshot: Snapshot, job: PricedJob) -> PredictedWait:
        added_s: dict[QueuePosition, float] = defaultdict(float)
        for other, count in (*self._uncommitted.items(), *self._committed.items()):
            added_s[other.position] += count * other.seconds
        return snapshot.turns.wait(job, added_s)

    def _is_too_long(self, snapshot: Snapshot, wait: PredictedWait) -> bool:
        return not wait.is_within(snapshot.slots) and (
            snapshot.backlog.begun_in_s(wait.seconds) > self._max_wait_s
        )

    async def _read_turn(self, snapshot: Snapshot, tenant_id: UUID) -> None:
        """Of a tenant that has nothing queued. It is the last if Postgres does not answer."""
        try:
            async with self._database.transaction() as session:
                turns = await repository.read_turns(session, [tenant_id])
        except DatabaseUnavailable as error:
            log.warning("admission.database_unavailable", error=error.message)
        else:
            snapshot.turns.add(tenant_id, turns.get(tenant_id, UNKNOWN_TURN))

    async def _refresh(self) -> Snapshot:
        began = monotonic()
        committed_before = self._committed.copy()
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
            self._committed -= committed_before
            return snapshot
        finally:
            self._refreshing = None

    async def _read(self, session: Session, began: float) -> Snapshot:
        models = self.models
        prices = PriceList(await repository.load_profiles(session))
        queued = await repository.read_queued(session, models)
        tenant_ids = {position.tenant_id for position in queued}
        turns = await repository.read_turns(session, tenant_ids)
        running, running_s = await repository.read_work(session, models, JobState.RUNNING)
        workers, slots = await repository.claiming_slots(session, self._pool)
        backlog = Backlog(
            queued=sum(pictures.count for pictures in queued.values()),
            running=running,
            queued_s=sum(pictures.seconds for pictures in queued.values()),
            running_s=running_s,
            workers=workers,
            measured=not models or models[0] in prices,
        )
        now = monotonic()
        fresh_until = now + max(_FRESH_S, (now - began) / _MAX_SHARE_OF_TIME)
        return Snapshot(prices, backlog, Turns(turns, queued), slots, fresh_until)


def _paths(settings: Settings) -> Mapping[str, str]:
    return {name: model.path for name, model in settings.served.items()}
