"""Everything that may happen to a job, at once, over and over; then the invariants."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from pipelines.diffusion.request import EngineStats
from serve.database import Database
from serve.jobs.errors import JobFinished
from serve.jobs.lifecycle import Jobs
from serve.pictures.stored_file import StoredFile
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import ask

JOBS, WORKERS = 30, 4


class Storm:
    """Clients that cancel, workers that finish, fail, hand back, vanish, and three reapers."""

    def __init__(
        self, jobs: Jobs, claims: Claims, reaper: Reaper, database: Database, seed: int
    ) -> None:
        self.jobs, self.claims, self.reaper, self.database = jobs, claims, reaper, database
        self.chance = random.Random(seed)
        self.over = False

    async def worker(self) -> None:
        worker_id = await self.claims.register("cpu", 4)
        while not self.over:
            if not await self.claims.heartbeat(worker_id, EngineStats(), draining=False):
                worker_id = await self.claims.register("cpu", 4)
            claimed = await self.claims.claim(worker_id, 4)
            if self.chance.random() < 0.15:  # silence: what it held is for the reaper
                async with self.database.transaction() as session:
                    await session.execute(
                        text("UPDATE workers SET heartbeat_at = 'epoch' WHERE id = :id"),
                        {"id": worker_id},
                    )
                worker_id = await self.claims.register("cpu", 4)
            for claim in claimed:
                await asyncio.sleep(self.chance.random() / 100)
                fate = self.chance.random()
                if fate < 0.2:
                    await self.claims.hand_back(claim)
                elif fate < 0.25:
                    await self.claims.fail(claim, "bad luck")
                else:
                    file = StoredFile("original", "image/png", 8, 8, 1, "0" * 64, str(uuid4()))
                    await self.claims.complete(claim, [file])
            if not claimed:
                await asyncio.sleep(0.01)

    async def client(self, job_id: UUID, tenant_id: UUID) -> None:
        await asyncio.sleep(self.chance.random())
        with suppress(JobFinished):
            await self.jobs.cancel(tenant_id, job_id)

    async def reap(self) -> None:
        while not self.over:
            await self.reaper.reap()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", [1, 2])
async def test_invariants_hold_in_a_storm(
    seed: int,
    jobs: Jobs,
    claims: Claims,
    database: Database,
    reaper: Reaper,
    tenant_id: UUID,
) -> None:
    storm = Storm(jobs, claims, reaper, database, seed)
    made = [
        await jobs.submit(tenant_id, ask(n=1 + i % 4, deadline_s=0.5 if i % 10 == 0 else None))
        for i in range(JOBS)
    ]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(storm.worker())
        for _ in range(3):
            group.create_task(storm.reap())
        for job in made[::3]:
            group.create_task(storm.client(job.id, tenant_id))
        while await unfinished(database):
            await asyncio.sleep(0.1)
        storm.over = True
    await check(database)


async def unfinished(database: Database) -> int:
    async with database.transaction() as session:
        live = text("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        count: int = (await session.scalars(live)).one()
        return count


BROKEN = {
    "a job's state and its images' disagree": """
        SELECT job_id FROM images JOIN jobs ON jobs.id = job_id GROUP BY job_id, jobs.state
        HAVING bool_or(images.state IN ('queued', 'running'))
            OR (jobs.state = 'succeeded') <> bool_and(images.state = 'succeeded')""",
    "a picture has files without success, or success without files": """
        SELECT images.id FROM images LEFT JOIN variants ON image_id = images.id
        GROUP BY images.id HAVING (count(image_id) > 0) <> (images.state = 'succeeded')""",
    "events are not 1..n": """
        SELECT job_id FROM events JOIN jobs ON jobs.id = job_id GROUP BY job_id, last_seq
        HAVING array_agg(seq ORDER BY seq) <> array(SELECT generate_series(1, last_seq))""",
    "not one terminal event, or not the last": """
        SELECT job_id FROM events JOIN jobs ON jobs.id = job_id GROUP BY job_id, jobs.state
        HAVING count(*) FILTER (WHERE type ~ '^job.(succ|fail|canc|exp)') <> 1
            OR (array_agg(type ORDER BY seq DESC))[1] <> 'job.' || jobs.state""",
    "a picture was told twice": """
        SELECT job_id FROM events WHERE type = 'image.succeeded'
        GROUP BY job_id, data->>'index' HAVING count(*) > 1""",
    "a picture came after its job's end": """
        SELECT images.id FROM images JOIN jobs ON jobs.id = job_id
        WHERE images.finished_at > jobs.finished_at""",
}


async def check(database: Database) -> None:
    async with database.transaction() as session:
        for what, query in BROKEN.items():
            assert (await session.scalars(text(query))).all() == [], what
        states = text("SELECT count(DISTINCT state) FROM jobs")
        assert (await session.scalars(states)).one() >= 3, "the storm was a calm"
