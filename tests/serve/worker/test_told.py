"""What a worker tells of its pictures, in its log and to Sentry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from opentelemetry import trace

from loadtests.collector import collecting
from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.stable_diffusion import StableDiffusion
from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.observability.tracing import TraceContext, begin, start_tracing, stop_tracing
from serve.pictures.stored_file import StoredFile
from serve.storage import Storage
from serve.tables import JobState
from serve.worker.claims import Claims
from serve.worker.errors import EngineDied, PictureFailed
from serve.worker.queue import Claim
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask
from tests.serve.jobs.test_lifecycle import age_worker, worker
from tests.serve.observability.told import logged, reported
from tests.serve.worker.test_worker import (
    LONG,
    Shelf,
    Workshop,
    storage,  # noqa: F401 - a fixture
    stored_files,
    until_running,
    workshop,  # noqa: F401
)

PROMPT = "a violet cathedral"
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_each_end_of_a_picture_is_a_line_with_its_ids(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    storage: Storage,  # noqa: F811
) -> None:
    async def store(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        if claim.request.seed == 13:
            raise PictureFailed("The disk is full.")
        return await stored_files(storage, image, claim)

    with logged() as lines:
        async with workshop.worker(Shelf(storage, store)):
            drawn = await jobs.submit(tenant_id, ask(prompt=PROMPT))
            await jobs.wait(tenant_id, drawn.id, 30)
            failed = await jobs.submit(tenant_id, ask(prompt=PROMPT, seed=13))
            await jobs.wait(tenant_id, failed.id, 30)
            cancelled = await jobs.submit(tenant_id, ask(prompt=PROMPT, num_inference_steps=LONG))
            await until_running(jobs, tenant_id, cancelled)
            await jobs.cancel(tenant_id, cancelled.id)
            async with asyncio.timeout(10):
                while not lines.of("picture.dropped"):
                    await asyncio.sleep(0.05)
        ended = {
            "picture.succeeded": ("info", drawn),
            "picture.failed": ("warning", failed),
            "picture.dropped": ("info", cancelled),
        }
        for event, (level, job) in ended.items():
            (line,) = lines.of(event)
            images = (await jobs.get(tenant_id, job.id)).images
            ids = [line[name] for name in ("job_id", "image_id", "tenant_id", "model", "attempt")]
            assert ids == [str(job.id), str(images[0].id), str(tenant_id), MODEL, 1]
            assert line["level"] == level
        (line,) = lines.of("picture.failed")
        assert line["error"] == "The disk is full."
        assert "exception" not in line
        about_jobs = [json.loads(line) for line in lines.text.splitlines() if "job_id" in line]
        assert len(about_jobs) == 3, "one line an event"
        assert PROMPT not in lines.text


async def test_a_picture_that_fails_unexpectedly_is_reported_once(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    storage: Storage,  # noqa: F811
) -> None:
    async def store(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        raise KeyError(f"no place for {claim.request.prompt!r}")

    with reported(pool="small") as reports:
        async with workshop.worker(Shelf(storage, store)):
            job = await jobs.submit(tenant_id, ask(prompt=PROMPT))
            ended = await jobs.wait(tenant_id, job.id, 30)
    assert ended.state is JobState.FAILED
    assert ended.error == "The picture could not be delivered: KeyError."
    (event,) = reports.events
    assert event["tags"] == {
        "pool": "small",
        "model": MODEL,
        "job_id": str(job.id),
        "image_id": str(ended.images[0].id),
        "tenant_id": str(tenant_id),
        "attempt": "1",
    }
    assert event["exception"]["values"][-1]["type"] == "KeyError"
    assert PROMPT not in reports.sent


async def test_an_error_in_the_engine_is_its_picture_s(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(*_: object, **__: object) -> None:
        raise RuntimeError(f"no such word: {PROMPT}")

    with logged() as lines, reported() as reports:
        async with workshop.worker() as (_, runner, _task):
            await asyncio.to_thread(runner.wait_until_warm)
            monkeypatch.setattr(StableDiffusion, "encode", encode)
            job = await jobs.submit(tenant_id, ask(prompt=PROMPT))
            ended = await jobs.wait(tenant_id, job.id, 30)
    assert ended.state is JobState.FAILED
    (event,) = reports.events
    assert event["tags"]["job_id"] == str(job.id)
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "encode"
    assert PROMPT not in reports.sent
    assert PROMPT not in lines.text


async def test_failures_that_were_expected_are_not_reported(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    storage: Storage,  # noqa: F811
) -> None:
    async def store(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        raise PictureFailed("The disk is full.")

    with reported() as reports:
        async with workshop.worker(Shelf(storage, store)):
            job = await jobs.submit(tenant_id, ask())
            assert (await jobs.wait(tenant_id, job.id, 30)).state is JobState.FAILED
    assert reports.events == []


async def test_the_engine_s_death_is_reported_once(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(engine: DiffusionEngine) -> None:
        raise SystemError("the device fell off the bus")

    with reported(process="diffusion", pool="small") as reports:
        async with workshop.worker() as (_, _runner, task):
            job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG, n=2))
            await until_running(jobs, tenant_id, job)
            monkeypatch.setattr(DiffusionEngine, "step", break_down)
            with pytest.raises(EngineDied):
                async with asyncio.timeout(10):
                    await task
    (event,) = reports.events
    assert event["logentry"]["message"] == "The engine's loop died."
    assert event["tags"] == {"process": "diffusion", "pool": "small"}


async def test_the_reaper_names_the_worker_and_each_of_its_pictures(
    jobs: Jobs, claims: Claims, reaper: Reaper, database: Database, tenant_id: UUID
) -> None:
    job = await jobs.submit(tenant_id, ask(n=2))
    worker_id = await worker(claims)
    held = await claims.claim(worker_id, 2)
    await age_worker(database, worker_id, 60)
    with logged() as lines:
        await reaper.reap()
        await reaper.reap()
    (lost,) = lines.of("reaper.worker_lost")
    assert lost["worker_id"] == str(worker_id)
    taken = lines.of("reaper.picture_taken")
    assert {line["image_id"] for line in taken} == {str(claim.image_id) for claim in held}
    assert [line["crashes"] for line in taken] == [1, 1]
    for line in taken:
        ids = [line[name] for name in ("job_id", "tenant_id", "worker_id")]
        assert ids == [str(job.id), str(tenant_id), str(worker_id)]


async def test_a_picture_s_line_names_its_job_s_trace(
    workshop: Workshop,  # noqa: F811
    jobs: Jobs,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        start_tracing(lambda: "one-process")
        try:
            with logged() as lines:
                span = begin("request", TraceContext(f"00-{TRACE}-b7ad6b7169203331-01"))
                async with workshop.worker():
                    with trace.use_span(span):
                        job = await jobs.submit(tenant_id, ask())
                    await jobs.wait(tenant_id, job.id, 30)
        finally:
            stop_tracing()
    (line,) = lines.of("picture.succeeded")
    assert line["trace_id"] == TRACE
