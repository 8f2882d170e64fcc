"""How many replicas the backlog asks for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import UUID

import pytest

from pipelines.diffusion.request import EngineStats
from serve.database import Database
from serve.deployments.autoscaling import BacklogPolicy
from serve.jobs.backlog import Backlog, read_backlog
from serve.jobs.claims import Claims
from serve.jobs.lifecycle import Jobs
from tests.serve.jobs.conftest import MODEL, ask


@pytest.mark.parametrize(
    ("queued", "running", "rate", "replicas"),
    [
        (0, 0, 2.0, 0),  # no work, no replica
        (5, 0, None, 1),  # nothing measured yet: one finds out
        (10, 10, 2.0, 1),  # 20 pictures at 2/s are 10 s of work
        (11, 10, 2.0, 2),
        (200, 0, 2.0, 10),
    ],
)
def test_replicas_clear_the_backlog_within_ten_seconds(
    queued: int, running: int, rate: float | None, replicas: int
) -> None:
    assert Backlog(queued, running, rate).replicas(10.0) == replicas


async def test_the_policy_follows_postgres(
    jobs: Jobs, claims: Claims, database: Database, database_url: str, tenant_id: UUID
) -> None:
    worker_id = await claims.register("cpu", 8)
    stats = EngineStats(finished=30, denoise_seconds=10.0)
    await claims.heartbeat(worker_id, stats, draining=False)
    for _ in range(4):
        await jobs.submit(tenant_id, ask(n=10))
    await claims.claim(worker_id, 8)
    assert await read_backlog(database, [MODEL]) == Backlog(32, 8, 3.0)

    policy = BacklogPolicy(database_url, [MODEL], target_wait_s=5.0)
    context = SimpleNamespace(target_num_replicas=1)
    assert policy(context) == (1, {})  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while policy(context)[1] == {}:  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
    assert policy(context) == (3, {"queued": 32})  # type: ignore[arg-type]
    assert policy._database is not None
    await policy._database.close()


async def test_the_work_of_all_the_models_of_a_replica_counts(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    worker_id = await claims.register("cpu", 8)
    await claims.heartbeat(worker_id, EngineStats(finished=6, denoise_seconds=2.0), draining=False)
    for model, n in ((MODEL, 2), ("second", 3), ("elsewhere", 4)):
        await jobs.submit(tenant_id, ask(model=model, n=n))
    await claims.claim(worker_id, 1)
    assert await read_backlog(database, [MODEL, "second"]) == Backlog(4, 1, 3.0)
