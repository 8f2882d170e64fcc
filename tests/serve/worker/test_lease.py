"""A worker without a lease claims nothing, and one lost lease is one charge."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from sqlalchemy import text

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.runner import EngineRunner
from serve.database import Database
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.storage import Storage, open_storage
from serve.tables import JobState
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from serve.worker.worker import Worker
from tests.serve.conftest import ask
from tests.serve.worker.test_worker import SETTINGS, Shelf, Workshop, until_running

LEASE_S = 2.0


@pytest.fixture
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return open_storage(tmp_path_factory.mktemp("pictures").as_uri())


@pytest.fixture
def workshop(
    claims: Claims,
    jobs: Jobs,
    model_folder: object,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> Workshop:
    """Its workers have a lease of two seconds, as the reaper has."""
    short = SETTINGS.model_copy(update={"lease_s": LEASE_S, "heartbeat_s": 0.2})
    monkeypatch.setattr("tests.serve.worker.test_worker.SETTINGS", short)
    return Workshop(claims, jobs._bus, model_folder, Shelf(storage))  # type: ignore[arg-type]


@asynccontextmanager
async def reaping(reaper: Reaper) -> AsyncIterator[None]:
    """As an ingress does."""

    async def reap() -> None:
        while True:
            await reaper.reap()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(reap())
    try:
        yield
    finally:
        assert not task.done(), task.exception()
        task.cancel()


@pytest.fixture
def slow_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[], threading.Event]:
    """Makes the next step of the engine last until the event is set; the prediction stays."""

    def slow() -> threading.Event:
        goes_on, hung = threading.Event(), threading.Event()
        denoise = DiffusionEngine._denoise

        def wait(engine: DiffusionEngine, batch: list[object]) -> list[object]:
            if not hung.is_set():
                hung.set()
                goes_on.wait(60)
            return denoise(engine, batch)  # type: ignore[arg-type,return-value]

        monkeypatch.setattr(DiffusionEngine, "_denoise", wait)
        return goes_on

    return slow


async def crashes(jobs: Jobs, tenant_id: UUID, job_id: UUID) -> list[int]:
    return [image.crashes for image in (await jobs.get(tenant_id, job_id)).images]


async def until(worker: Worker, *, hangs: bool) -> None:
    async with asyncio.timeout(20):
        while worker.engine_hangs is not hangs:
            await asyncio.sleep(0.1)


async def test_a_first_step_that_outlasts_the_lease_costs_nothing(
    workshop: Workshop,
    jobs: Jobs,
    reaper: Reaper,
    tenant_id: UUID,
    slow_step: Callable[[], threading.Event],
) -> None:
    """Of a size that was never drawn, nobody knows how long it takes."""
    async with reaping(reaper), workshop.worker() as (worker, runner, _task):
        await asyncio.to_thread(runner.wait_until_warm)
        goes_on = slow_step()
        job = await jobs.submit(tenant_id, ask(n=2, width=96, height=96, num_inference_steps=1))
        await asyncio.sleep(3 * LEASE_S)
        assert runner.patience >= 600
        assert not worker.engine_hangs
        goes_on.set()
        done = await jobs.wait(tenant_id, job.id, 30)
    assert done.state is JobState.SUCCEEDED
    assert [(image.attempt, image.crashes) for image in done.images] == [(1, 0)] * 2


async def test_a_hang_is_found_and_costs_one_crash_however_long_it_lasts(
    workshop: Workshop,
    jobs: Jobs,
    database: Database,
    reaper: Reaper,
    tenant_id: UUID,
    slow_step: Callable[[], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EngineRunner, "patience", 0.5)
    async with reaping(reaper), workshop.worker() as (worker, runner, _task):
        await asyncio.to_thread(runner.wait_until_warm)
        job = await jobs.submit(tenant_id, ask(num_inference_steps=40))
        await until_running(jobs, tenant_id, job)
        goes_on = slow_step()
        late = await jobs.submit(tenant_id, ask(seed=8))
        await until(worker, hangs=True)
        async with asyncio.timeout(20):
            while await jobs.workers():
                await asyncio.sleep(0.1)
        newest = await jobs.submit(tenant_id, ask(seed=9))
        await asyncio.sleep(2 * LEASE_S)  # some twenty rounds of the reaper
        assert await crashes(jobs, tenant_id, job.id) == [1]
        assert max(await crashes(jobs, tenant_id, late.id)) <= 1
        assert await crashes(jobs, tenant_id, newest.id) == [0], "it was never held"
        assert await jobs.workers() == []
        goes_on.set()
        ended = [await jobs.wait(tenant_id, each.id, 30) for each in (job, late, newest)]
        await until(worker, hangs=False)
        assert len(await jobs.workers()) == 1
    assert [each.state for each in ended] == [JobState.SUCCEEDED] * 3
    assert await crashes(jobs, tenant_id, job.id) == [1]


async def test_whose_row_is_gone_claims_nothing(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask(n=2))
    worker_id = await claims.register("cpu", 8)
    await claims.leave(worker_id)
    assert await claims.claim(worker_id, 8) == []
    again = await jobs.get(tenant_id, job.id)
    assert again.state is JobState.QUEUED
    assert [(image.state, image.attempt) for image in again.images] == [(JobState.QUEUED, 0)] * 2
    other = await claims.register("cpu", 8)
    assert len(await claims.claim(other, 8)) == 2


async def test_what_is_claimed_while_the_reaper_takes_the_lease_is_charged_with_it(
    jobs: Jobs, claims: Claims, database: Database, reaper: Reaper, tenant_id: UUID
) -> None:
    """The reaper waits for a claim under way: nothing is left under a lease that is gone."""
    job = await jobs.submit(tenant_id, ask(n=4))
    worker_id = await claims.register("cpu", 8)
    async with database.transaction() as session:
        await session.execute(text("UPDATE workers SET heartbeat_at = now() - interval '1 minute'"))
    async with asyncio.TaskGroup() as group:
        claiming = group.create_task(claims.claim(worker_id, 4))
        group.create_task(reaper.reap())
    for _ in range(3):
        await reaper.reap()
    assert await crashes(jobs, tenant_id, job.id) == [int(bool(claiming.result()))] * 4
    images = (await jobs.get(tenant_id, job.id)).images
    assert {image.state for image in images} == {JobState.QUEUED}


async def test_an_engine_that_hangs_ends_the_replica_s_health(
    workshop: Workshop,
    jobs: Jobs,
    tenant_id: UUID,
    slow_step: Callable[[], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only once its work was left to others: until then it may go on."""
    monkeypatch.setattr(EngineRunner, "patience", 0.5)
    worker: Worker
    async with workshop.worker() as (worker, runner, _task):
        await asyncio.to_thread(runner.wait_until_warm)
        goes_on = slow_step()
        job = await jobs.submit(tenant_id, ask())
        async with asyncio.timeout(20), jobs.feeds.open(tenant_id) as feed:
            await feed.watch(job.id)
            while (event := await feed.next()) is None or event.type is not EventType.RUNNING:
                pass
        await asyncio.sleep(1)
        assert not worker.engine_hangs
        await until(worker, hangs=True)
        goes_on.set()
        await until(worker, hangs=False)
