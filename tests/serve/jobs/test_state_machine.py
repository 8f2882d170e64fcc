"""Any order of everything that may happen to jobs, on a real Postgres; the invariants after each.

Workers here are only their hold on pictures: claims that are drawn, crash, or come too late. Time
passes by moving what the tables say of the past, as the database's clock is the only one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from pipelines.diffusion.request import EngineStats
from serve.database import Database
from serve.events.bus import EventBus
from serve.events.feed import JobNotFound
from serve.jobs.errors import IdempotencyConflict, JobFinished
from serve.jobs.lifecycle import Jobs
from serve.jobs.request import JobRequest
from serve.pictures.stored_file import StoredFile
from serve.settings import ModelSettings, Settings
from serve.storage import open_storage
from serve.tables import JobState, Tenant
from serve.worker.claims import Claims
from serve.worker.queue import Claim
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask, watching

T = TypeVar("T")

TERMINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
MAX_CRASHES = 3
LEASE_S = 10.0
WORKERS = 3  # few, so that one gets again what it once gave up, under another attempt
MOST_JOBS = 6
WHICH = st.integers(0, 1000)


def pick(choices: Sequence[T], which: int) -> T:
    """The newest for 0."""
    return choices[-1 - which % len(choices)]


class QuietBus(EventBus):
    """Every hint is lost: the invariants are Postgres' alone."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1")

    async def publish(self, *events: object) -> None: ...
    async def announce_work(self) -> None: ...


@dataclass
class Known:
    """What the clients and workers of the test remember of a job."""

    tenant_id: UUID
    n: int
    state: JobState = JobState.QUEUED
    events: list[tuple[int, str]] = field(default_factory=list)
    cancelled: bool = False
    pictures_at_cancel: int = 0


class Lifecycle(RuleBasedStateMachine):
    """Two tenants, any number of workers, one reaper."""

    url: str
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(self.url, pool_size=2)
        configured = Settings(
            database_url=self.url,
            redis_url="redis://127.0.0.1:1",
            model=ModelSettings(name=MODEL),
        )
        leases = configured.worker.model_copy(update={"lease_s": LEASE_S})
        configured = configured.model_copy(update={"worker": leases})
        bus = QuietBus()
        self.door = Jobs(self.database, bus, open_storage(configured.storage), configured)
        self.desk = Claims(self.database, bus, [MODEL])
        self.reaper = watching(Reaper(self.database, bus, configured))
        self.known: dict[UUID, Known] = {}
        self.keys: dict[tuple[UUID, str], tuple[UUID, JobRequest]] = {}
        self.attempts: dict[UUID, int] = defaultdict(int)
        self.lost: dict[UUID, int] = defaultdict(int)  # leases, by image
        # No bundles: how many of each there are depends on ids and time as well.
        self.workers: list[UUID] = []
        self.taken: list[Claim] = []
        self.tenants = [self.run(self.make_tenant(name)) for name in ("first", "second")]

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(bounded())

    async def make_tenant(self, name: str) -> UUID:
        async with self.database.transaction() as session:
            await session.execute(
                text("TRUNCATE tenants, workers, cost_profiles CASCADE")
                if name == "first"
                else text("SELECT 1")
            )
            tenant = Tenant(name=name)
            session.add(tenant)
            await session.flush()
            return tenant.id

    async def execute(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        async with self.database.transaction() as session:
            result = await session.execute(text(statement), values)
            return [tuple(row) for row in result]

    # What clients do.

    @initialize()
    def begin(self) -> None:
        self.workers = [self.run(self.desk.register("cpu", 4)) for _ in range(WORKERS)]
        self.submit(0, 2, 0, deadline=True, key="a")
        self.submit(1, 3, 0, deadline=False, key=None)

    @precondition(lambda self: len(self.known) < MOST_JOBS)
    @rule(
        tenant=st.integers(0, 1),
        n=st.integers(1, 3),
        priority=st.integers(-1, 1),
        deadline=st.booleans(),
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def submit(self, tenant: int, n: int, priority: int, deadline: bool, key: str | None) -> None:
        tenant_id = self.tenants[tenant]
        asked = ask(n=n, priority=priority, deadline_s=500.0 if deadline else None)
        before = self.keys.get((tenant_id, key or ""))
        try:
            job = self.run(self.door.submit(tenant_id, asked, idempotency_key=key))
        except IdempotencyConflict:
            assert before is not None, "a new key is no conflict"
            assert before[1] != asked, "I9: the same request is no conflict"
            return
        if before is not None:
            assert (job.id, asked) == before, "I9: one key and request, one job"
            return
        if key is not None:
            self.keys[tenant_id, key] = (job.id, asked)
        assert job.id not in self.known
        self.known[job.id] = Known(tenant_id, n)

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        job_id = pick(list(self.known), which)
        known = self.known[job_id]
        ended = known.state in TERMINAL and known.state is not JobState.CANCELLED
        try:
            job = self.run(self.door.cancel(known.tenant_id, job_id))
        except JobFinished:
            assert ended
            return
        assert not ended
        assert job.state is JobState.CANCELLED
        if not known.cancelled:
            known.cancelled = True
            known.pictures_at_cancel = sum(
                image.state is JobState.SUCCEEDED for image in job.images
            )

    @rule(which=WHICH)
    def spy(self, which: int) -> None:
        """I11: the other tenant finds nothing."""
        job_id = pick(list(self.known), which)
        (stranger,) = set(self.tenants) - {self.known[job_id].tenant_id}
        for attempt in (self.door.get, self.door.cancel):
            with pytest.raises(JobNotFound):
                self.run(attempt(stranger, job_id))

    # What workers do.

    @rule(which=WHICH, free=st.integers(1, 4), spare=st.integers(0, 2))
    def claim(self, which: int, free: int, spare: int) -> None:
        worker_id = pick(self.workers, which)
        holding = self.run(self.desk.held(worker_id))
        if any(claim.alone for claim in holding):
            return  # the worker's own rule
        taken = self.run(self.desk.claim(worker_id, free, spare=spare, holding=len(holding)))
        assert len(taken) <= free + spare
        if not self.run(self.execute("SELECT 1 FROM workers WHERE id = :id", id=worker_id)):
            assert not taken, "without a lease nothing is claimed"
        if any(claim.alone for claim in taken):
            assert len(taken) == 1, "I12: what was lost once is drawn alone"
            assert not holding
        for claim in taken:
            assert claim.attempt > self.attempts[claim.image_id], "I5: attempts rise"
            self.attempts[claim.image_id] = claim.attempt
            assert claim.alone == (self.lost[claim.image_id] > 0)
        self.taken += taken

    @rule(which=WHICH, how=st.sampled_from(["complete", "complete", "fail", "hand back"]))
    def end(self, which: int, how: str) -> None:
        """Perhaps too late; and again: an answer to a COMMIT may be lost."""
        if not self.taken:
            return
        claim = pick(self.taken, which)
        holder = self.run(
            self.execute("SELECT worker_id, attempt FROM images WHERE id = :id", id=claim.image_id)
        )
        current = holder == [(claim.worker_id, claim.attempt)]
        for expected in (current, False):
            match how:
                case "complete":
                    done = self.run(self.desk.complete(claim, self.files(claim)))
                case "fail":
                    done = self.run(self.desk.fail(claim, "bad luck"))
                case _:
                    done = self.run(self.desk.hand_back(claim))
            assert done == expected, "I4: the current attempt alone, and once"

    @rule(which=WHICH)
    def beat(self, which: int) -> None:
        """A worker whose lease was lost begins anew, under another name."""
        number = which % WORKERS
        worker_id = self.workers[number]
        alive = bool(self.run(self.execute("SELECT 1 FROM workers WHERE id = :id", id=worker_id)))
        assert self.run(self.desk.heartbeat(worker_id, EngineStats(), draining=False)) == alive
        if not alive:
            self.workers[number] = self.run(self.desk.register("cpu", 4))

    # What the service does.

    @rule(which=WHICH, silent=st.sampled_from([False, False, True]))
    def reap(self, which: int, silent: bool) -> None:
        """Perhaps a worker has fallen silent; its own late commits may still come."""
        if silent:
            self.run(
                self.execute(
                    "UPDATE workers SET heartbeat_at = 'epoch' WHERE id = :id RETURNING id",
                    id=pick(self.workers, which),
                )
            )
        alive = "UPDATE workers SET heartbeat_at = now() WHERE heartbeat_at > 'epoch' RETURNING id"
        self.run(self.execute(alive))
        held = "SELECT i.id FROM images i LEFT JOIN workers w ON w.id = worker_id"
        gone = f"{held} WHERE i.state = 'running' AND (w.id IS NULL OR heartbeat_at = 'epoch')"
        for (image_id,) in self.run(self.execute(gone)):
            assert isinstance(image_id, UUID)
            self.lost[image_id] += 1
        self.run(self.reaper.reap())

    @rule(which=WHICH)
    def let_the_deadline_pass(self, which: int) -> None:
        self.run(
            self.execute(
                "UPDATE jobs SET deadline_at = now() - interval '1 second'"
                " WHERE id = :id AND deadline_at IS NOT NULL AND finished_at IS NULL RETURNING id",
                id=pick(list(self.known), which),
            )
        )

    # What must hold, always.

    @invariant()
    def everything_holds(self) -> None:
        self.every_job_is_what_its_history_allows()
        self.events_only_ever_grow_and_end_once()

    def every_job_is_what_its_history_allows(self) -> None:
        for job_id, known in self.known.items():
            job = self.run(self.door.get(known.tenant_id, job_id))
            if known.state in TERMINAL:
                assert job.state is known.state, "I6: an end is an end"
            known.state = job.state
            assert len(job.images) == known.n, "I2: one row a picture"
            states = {image.state for image in job.images}
            if job.state in TERMINAL:
                assert states <= TERMINAL, "I1: a job that has ended has no live picture"
            if job.state is JobState.SUCCEEDED:
                assert states == {JobState.SUCCEEDED}
                assert all(len(image.variants) == 1 for image in job.images), "I3"
            if job.state is JobState.FAILED:
                assert job.error, "a failure has a reason"
            drawn = [image for image in job.images if image.state is JobState.SUCCEEDED]
            if known.cancelled:
                assert len(drawn) == known.pictures_at_cancel, "I10"
            for image in job.images:
                assert bool(image.variants) == (image.state is JobState.SUCCEEDED)
                if job.state in TERMINAL:  # a lost picture may have ended its job, and this one
                    assert image.crashes <= self.lost[image.id]
                else:
                    assert image.crashes == self.lost[image.id] < MAX_CRASHES, "I5"

    def events_only_ever_grow_and_end_once(self) -> None:
        rows = self.run(self.execute("SELECT job_id, seq, type FROM events ORDER BY job_id, seq"))
        histories: dict[object, list[tuple[int, str]]] = defaultdict(list)
        for job_id, seq, kind in rows:
            assert isinstance(seq, int)
            histories[job_id].append((seq, str(kind)))
        for job_id, known in self.known.items():
            events = histories[job_id]
            assert [seq for seq, _ in events] == list(range(1, len(events) + 1)), "I7"
            assert events[: len(known.events)] == known.events, "I8: what was told stays"
            known.events = events
            ends = [kind for _, kind in events if kind.removeprefix("job.") in set(TERMINAL)]
            kinds = [kind for _, kind in events]
            if known.state in TERMINAL:
                assert ends == [f"job.{known.state}"] == [events[-1][1]], "I7: the end is the last"
            else:
                assert ends == []
            assert kinds.count("image.succeeded") <= known.n, "I2"
            assert kinds.count("job.running") <= 1
            assert kinds[0] == "job.queued"
            drawn = kinds.index("image.succeeded") if "image.succeeded" in kinds else len(kinds)
            assert "job.running" in kinds[:drawn] or drawn == len(kinds)

    @staticmethod
    def files(claim: Claim) -> list[StoredFile]:
        key = f"{claim.image_id}/{claim.attempt}/{uuid4()}"
        return [StoredFile("original", "image/png", 64, 64, 10, "0" * 64, key)]

    def teardown(self) -> None:
        self.run(self.database.close())


def test_the_invariants_hold_in_any_order(database_url: str) -> None:
    loop = asyncio.new_event_loop()

    try:
        machine = type("Machine", (Lifecycle,), {"url": database_url, "loop": loop})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=60,
                stateful_step_count=50,
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a step takes a while
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.close()
