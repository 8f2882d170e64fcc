"""The better of two is chosen once, whoever draws, dies or comes too late."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from pipelines.imaging.critique import Critique
from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.jobs.why import Why
from serve.tables import Job, JobState
from serve.worker.claims import Claims
from serve.worker.queue import Claim
from serve.worker.reaper import Reaper
from tests.serve.conftest import ask
from tests.serve.jobs.test_lifecycle import age_worker, worker

DULL, VIVID = Critique(10, 5), Critique(900, 50)


@pytest.fixture
async def job(jobs: Jobs, tenant_id: UUID) -> Job:
    why = Why(theme=None, grammar="none", exploration=0, choices=[], avoided=[])
    return await jobs.submit(tenant_id, ask(n=2, autonomous=True), why=why)


async def complete(claims: Claims, claim: Claim, critique: Critique | None) -> bool:
    return await claims.complete(claim, [], critique=critique)


async def kept(jobs: Jobs, job: Job) -> list[int]:
    found = await jobs.get(job.tenant_id, job.id)
    assert found.state is JobState.SUCCEEDED
    assert found.why is not None
    left = [image.index for image in found.images if image.deleted_at is None]
    assert left == [found.why["verdict"]["kept"]]
    return left


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("critiques", "better"),
    [
        ((DULL, VIVID), 1),
        ((VIVID, DULL), 0),
        ((VIVID, VIVID), 0),  # the first of equals
        ((None, DULL), 1),  # a replica of an earlier version does not measure
        ((None, None), 0),
    ],
)
async def test_the_better_one_is_kept_in_whatever_order_they_come(
    jobs: Jobs,
    claims: Claims,
    job: Job,
    critiques: tuple[Critique | None, Critique | None],
    better: int,
    first: int,
) -> None:
    taken = await claims.claim(await worker(claims), 2)
    for claim in sorted(taken, key=lambda claim: abs(claim.index - first)):
        assert await complete(claims, claim, critiques[claim.index])
    assert await kept(jobs, job) == [better]


async def test_both_at_once(jobs: Jobs, claims: Claims, job: Job) -> None:
    taken = await claims.claim(await worker(claims), 2)
    done = await asyncio.gather(
        *(complete(claims, claim, VIVID if claim.index else DULL) for claim in taken)
    )
    assert done == [True, True]
    assert await kept(jobs, job) == [1]


async def test_a_worker_dies_between_the_two_and_comes_back_too_late(
    database: Database, jobs: Jobs, claims: Claims, reaper: Reaper, job: Job
) -> None:
    lost = await worker(claims)
    first, second = await claims.claim(lost, 2)
    assert await complete(claims, first, DULL)
    await age_worker(database, lost, 60)
    assert await reaper.reap() == 1
    [again] = await claims.claim(await worker(claims), 2)
    assert again.index == second.index
    assert await complete(claims, again, VIVID)
    assert not await complete(claims, second, None)
    assert await kept(jobs, job) == [second.index]
    told = [image.critique for image in (await jobs.get(job.tenant_id, job.id)).images]
    assert told == [
        {"sharpness": 10, "colourfulness": 5},
        {"sharpness": 900, "colourfulness": 50},
    ]


async def test_of_a_job_that_is_cancelled_nothing_is_chosen(
    jobs: Jobs, claims: Claims, job: Job
) -> None:
    first, second = await claims.claim(await worker(claims), 2)
    assert await complete(claims, first, DULL)
    await jobs.cancel(job.tenant_id, job.id)
    assert not await complete(claims, second, VIVID)
    found = await jobs.get(job.tenant_id, job.id)
    assert [image.deleted_at for image in found.images] == [None, None]
    assert found.why is not None
    assert found.why["verdict"] is None
