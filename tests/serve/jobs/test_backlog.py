"""How much work waits, and how many replicas it asks for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import text

from serve.database import Database
from serve.deployments.autoscaling import BacklogPolicy
from serve.jobs.backlog import Backlog, read_backlog
from serve.jobs.lifecycle import Jobs
from serve.jobs.price import PriceList
from serve.settings import DEFAULT_POOL
from serve.worker.claims import Claims
from tests.serve.conftest import MODEL, ask


@pytest.mark.parametrize(
    ("queued", "queued_s", "running", "running_s", "now", "replicas"),
    [
        (0, 0.0, 0, 0.0, 3, 0),  # no work, no replica
        (1, 0.0, 0, 0.0, 0, 1),  # of unknown cost: one finds out
        (1, 0.1, 0, 0.0, 0, 1),  # up from zero by the first job
        (10, 10.0, 0, 0.0, 1, 1),
        (10, 10.1, 0, 0.0, 1, 2),
        (10, 8.0, 8, 8.0, 1, 2),  # what runs is half done
        (50, 100.0, 0, 0.0, 1, 10),
        (0, 0.0, 8, 90.0, 2, 2),  # nobody waits: no more than there are
        (0, 0.0, 2, 4.0, 4, 1),
    ],
)
def test_replicas_clear_the_backlog_within_ten_seconds(
    queued: int, queued_s: float, running: int, running_s: float, now: int, replicas: int
) -> None:
    assert Backlog(queued, running, queued_s, running_s, now).replicas(10.0, now) == replicas


def test_a_model_that_was_never_measured_keeps_one_replica() -> None:
    assert Backlog(0, 0, 0.0, 0.0, workers=0, measured=False).replicas(10.0, 1) == 1


def test_more_workers_wait_less() -> None:
    backlog = Backlog(queued=8, running=4, queued_s=20.0, running_s=8.0, workers=3)
    assert backlog.wait_s == pytest.approx(8.0)
    assert backlog.begun_in_s(5.0) == pytest.approx(3.0)


async def test_the_policy_follows_postgres(
    jobs: Jobs,
    claims: Claims,
    database: Database,
    database_url: str,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    each = PriceList().price(ask()).device
    worker_id = await claims.register("cpu", 8)
    for _ in range(4):
        await jobs.submit(tenant_id, ask(n=10))
    await claims.claim(worker_id, 8)
    backlog = await read_backlog(database, DEFAULT_POOL, [MODEL])
    assert (backlog.queued, backlog.running, backlog.workers) == (32, 8, 1)
    assert (backlog.queued_s, backlog.running_s) == pytest.approx((32 * each, 8 * each))

    policy = BacklogPolicy(DEFAULT_POOL, [MODEL], target_wait_s=13 * each, database={})
    context = SimpleNamespace(target_num_replicas=1)
    assert policy(context) == (1, {})  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while policy(context)[1] == {}:  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
    assert policy(context) == (3, {"backlog_s": pytest.approx(36 * each)})  # type: ignore[arg-type]
    assert policy._database is not None
    await policy._database.close()


async def test_the_work_of_all_the_models_of_a_replica_counts(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    worker_id = await claims.register("cpu", 8)
    for model, n in ((MODEL, 2), ("second", 3), ("elsewhere", 4)):
        await jobs.submit(tenant_id, ask(model=model, n=n))
    await claims.claim(worker_id, 1)
    backlog = await read_backlog(database, DEFAULT_POOL, [MODEL, "second"])
    assert (backlog.queued, backlog.running, backlog.workers) == (4, 1, 1)


async def test_background_tenants_start_no_replica(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE tenants SET weight = 0"))
    worker_id = await claims.register("cpu", 8)
    await jobs.submit(tenant_id, ask(n=10))
    assert len(await claims.claim(worker_id, 8, background=8)) == 8
    backlog = await read_backlog(database, DEFAULT_POOL, [MODEL])
    assert (backlog.queued, backlog.running, backlog.seconds) == (0, 0, 0)
