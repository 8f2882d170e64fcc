"""A worker that is stopped (SIGSTOP) for longer than its lease, and continued."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from serve.events.bus import EventBus
from serve.jobs.lifecycle import Jobs
from serve.storage import open_storage
from serve.tables import JobState, Worker
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.serve.conftest import LEASE_S, ask
from tests.serve.worker.test_lease import reaping
from tests.serve.worker.test_worker import Shelf, Workshop, until_running

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def process(
    database_url: str, valkey_url: str, model_folder: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.serve.worker.one_worker"]
    told = [database_url, valkey_url, tmp_path.as_uri(), str(model_folder), str(LEASE_S)]
    process = subprocess.Popen([*command, *told], cwd=REPOSITORY)
    yield process
    process.send_signal(signal.SIGCONT)
    process.terminate()
    assert process.wait(30) == 0, "it drains as ever"


async def workers(jobs: Jobs, number: int) -> list[Worker]:
    """Once there are so many."""
    async with asyncio.timeout(60):
        while len(alive := await jobs.workers()) != number:
            await asyncio.sleep(0.1)
    return list(alive)


async def told(jobs: Jobs, tenant_id: UUID, job_id: UUID) -> Counter[str]:
    """How often the job's events told of what."""
    seen: Counter[str] = Counter()
    async with jobs.feeds.open(tenant_id) as feed:
        await feed.watch(job_id)
        while (event := await feed.next(1)) is not None:
            seen[event.type.value] += 1
    return seen


async def test_each_picture_comes_once_and_is_charged_once(
    process: subprocess.Popen[bytes],
    jobs: Jobs,
    claims: Claims,
    bus: EventBus,
    reaper: Reaper,
    tenant_id: UUID,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    """Whether it draws them itself once it goes on, or another did meanwhile."""
    storage = open_storage(tmp_path.as_uri())
    workshop = Workshop(claims, bus, model_folder, Shelf(storage), storage)
    async with reaping(reaper):
        (before,) = await workers(jobs, 1)
        job = await jobs.submit(tenant_id, ask(n=2, num_inference_steps=120))
        await until_running(jobs, tenant_id, job)
        process.send_signal(signal.SIGSTOP)
        await workers(jobs, 0)
        late = await jobs.submit(tenant_id, ask(seed=90))
        await asyncio.sleep(LEASE_S)
        process.send_signal(signal.SIGCONT)
        done = [await jobs.wait(tenant_id, each.id, 60) for each in (job, late)]
        (after,) = await workers(jobs, 1)
        assert after.id != before.id, "it came back under another lease"
        assert [each.state for each in done] == [JobState.SUCCEEDED] * 2
        assert [(image.attempt, image.crashes) for image in done[0].images] == [(2, 1)] * 2
        assert [(image.attempt, image.crashes) for image in done[1].images] == [(1, 0)]
        assert (await told(jobs, tenant_id, job.id))["image.succeeded"] == 2

        job = await jobs.submit(tenant_id, ask(n=2, num_inference_steps=120))
        await until_running(jobs, tenant_id, job)
        process.send_signal(signal.SIGSTOP)
        async with workshop.worker():
            other = await jobs.wait(tenant_id, job.id, 60)
            process.send_signal(signal.SIGCONT)
            assert after.id not in {worker.id for worker in await workers(jobs, 2)}
            await asyncio.sleep(1)  # in which it would commit what it had drawn
            again = await jobs.get(tenant_id, job.id)
        assert [image.finished_at for image in again.images] == [
            image.finished_at for image in other.images
        ]
        assert again.state is JobState.SUCCEEDED
        assert [(image.attempt, image.crashes) for image in again.images] == [(2, 1)] * 2
        assert (await told(jobs, tenant_id, job.id))["image.succeeded"] == 2
