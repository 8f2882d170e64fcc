"""What an operator sees of the whole service: queues, replicas, throughput, failures."""

from __future__ import annotations

import httpx2
from sqlalchemy import text

from pipelines.diffusion.request import EngineStats
from serve.api.services import Services
from serve.operator.repository import DRAWN
from tests.serve.api.browser import submit
from tests.serve.api.drawing import Desk

PATH = "/v1/operator/overview"


async def test_queues_replicas_throughput_and_failures(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    services: Services,
) -> None:
    desk = Desk(services)
    for who in (client, stranger):
        await submit(who, n=2)
    for claim in await desk.claim():
        await desk.finish(claim)
    failed = await submit(stranger, prompt="their secret")
    [claim] = await desk.claim()
    await desk.claims.fail(claim, "Storage is full.")
    await submit(client, n=3)
    await desk.claim(limit=1)
    stats = EngineStats(steps=10, request_steps=35, finished=4, failed=1)
    worker = await desk._registered()
    await desk.claims.heartbeat(worker, stats, draining=False)

    told = (await operator.get(PATH)).json()
    [pool] = told["pools"]
    assert (pool["name"], pool["queued"], pool["running"]) == ("default", 2, 1)
    assert pool["wait_s"] > 0
    assert pool["oldest_s"] > 0
    [replica] = told["replicas"]
    counted = [replica[name] for name in ("slots", "steps", "request_steps", "finished", "failed")]
    assert counted == [8, 10, 35, 4, 1]
    assert replica["draining"] is False
    assert told["pictures_per_minute"] == 0.8
    [failure] = told["failures"]
    named = [failure[name] for name in ("job_id", "tenant", "error")]
    assert named == [failed["id"], "second", "Storage is full."]
    assert "secret" not in str(told)


async def test_its_queries_have_indexes(client: httpx2.AsyncClient, services: Services) -> None:
    await submit(client)
    failed = "SELECT id FROM jobs WHERE jobs.state = 'failed' ORDER BY finished_at DESC LIMIT 20"
    ended = """
        INSERT INTO jobs (tenant_id, state, model, params, n, finished_at)
        SELECT id, CASE WHEN i % 500 = 0 THEN 'failed' ELSE 'succeeded' END, 'flow', '{}', 1,
            now() - make_interval(mins => i)
        FROM tenants, generate_series(1, 5000) i
    """
    async with services.database.transaction() as session:
        await session.execute(text(ended))
        await session.execute(text("ANALYZE jobs"))
        for query, index in ((str(DRAWN), "jobs_by_end"), (failed, "jobs_failed")):
            plan = await session.execute(text(f"EXPLAIN {query}"), {"seconds": 300.0})
            assert index in "\n".join(row[0] for row in plan)
