"""How many jobs and queued pictures there are, on a real Postgres."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.jobs.repository import LIVE_JOBS, QUEUED_BY_MODEL
from serve.tables import JobState
from tests.serve.conftest import MODEL, ask, make_tenant


async def test_all_tenants_are_counted_together(
    jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    other = await make_tenant(database, "second")
    await jobs.submit(tenant_id, ask(n=2))
    await jobs.submit(other, ask(n=3, priority=-100))
    urgent = await jobs.submit(other, ask(priority=1))
    await jobs.submit(other, ask(model="second", priority=1))
    await jobs.cancel(other, urgent.id)

    census = await jobs.census()

    assert census.live == {(JobState.QUEUED, MODEL): 2, (JobState.QUEUED, "second"): 1}
    ended = {JobState.SUCCEEDED: 0, JobState.FAILED: 0, JobState.CANCELLED: 1, JobState.EXPIRED: 0}
    assert census.ended == ended
    pictures = {(each.model, each.urgency): each.pictures for each in census.queued}
    assert pictures == {(MODEL, 0): 2, (MODEL, -1): 3, ("second", 1): 1}
    assert all(each.seconds > 0 and 0 <= each.oldest_s < 60 for each in census.queued)


async def test_ended_jobs_make_counting_the_others_no_slower(
    jobs: Jobs, database: Database, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask())
    columns = "tenant_id, state, model, params, n, finished_at"
    async with database.transaction() as session:
        await session.execute(
            text(
                f"INSERT INTO jobs ({columns}) SELECT tenant_id, 'succeeded', model, params, n,"  # noqa: S608
                " now() FROM jobs, generate_series(1, 5000)"
            )
        )
        await session.execute(
            text(
                "INSERT INTO images (job_id, tenant_id, index, state, model, width, height)"
                " SELECT id, tenant_id, 0, 'succeeded', model, 64, 64 FROM jobs WHERE id <> :id"
            ),
            {"id": job.id},
        )
        await session.execute(text("ANALYZE jobs, images"))
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        live = str(LIVE_JOBS.compile(dialect=dialect))
        for statement in (live, QUEUED_BY_MODEL.text):
            plan = (await session.execute(text(f"EXPLAIN {statement}"))).scalars().all()
            assert "Seq Scan" not in "\n".join(plan), plan
