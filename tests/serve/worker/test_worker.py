"""The worker with a real engine on a tiny model, real Postgres, Valkey and files."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import text

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.pool import ModelPool
from pipelines.diffusion.request import Output, Request, Result
from pipelines.diffusion.runner import EngineRunner
from pipelines.imaging.metadata.read import read_origin
from serve.database import Database, DatabaseUnavailable
from serve.deployments.pool import open_pool
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.moderation.errors import refused_picture
from serve.observability.tracing import TraceContext
from serve.openai.errors import outcome_error
from serve.pictures.stored_file import StoredFile
from serve.settings import FurtherModelSettings, ModelSettings, Settings, WorkerSettings
from serve.storage import Storage, open_storage
from serve.tables import Job, JobState
from serve.worker.claims import Claims
from serve.worker.delivery import (
    PostprocessTask,
    StoredPicture,
    discard_picture,
    store_picture,
)
from serve.worker.drawing import PictureStore
from serve.worker.errors import EngineDied, PictureFailed
from serve.worker.queue import Claim
from serve.worker.source import Source, SourceLoader
from serve.worker.worker import Worker
from tests.pipelines.diffusion.tiny import safety_checker
from tests.pipelines.diffusion.tiny.stable_diffusion import build_pipeline
from tests.serve.conftest import MODEL, ask, make_tenant

SETTINGS = WorkerSettings(max_batch=4, preview_every=2, heartbeat_s=0.6, poll_s=0.2, drain_s=5)
LONG = 900  # steps, nearly the most that a noise scheduler has: not done while a test looks
Postprocess = Callable[[NDArray[np.uint8], Claim], Awaitable[Sequence[StoredFile]]]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path.as_uri())


class Shelf:
    """What a post-process replica does, in this process, or something else in its place."""

    def __init__(self, storage: Storage, instead: Postprocess | None = None) -> None:
        self._storage, self._instead = storage, instead

    async def store(
        self, image: NDArray[np.uint8], claim: Claim, trace: TraceContext | None
    ) -> StoredPicture:
        if self._instead is not None:
            return StoredPicture(await self._instead(image, claim), "", 0.0, 0.0)
        return await store_picture(self._storage, image, PostprocessTask.of(claim), trace)

    async def discard(self, claim: Claim) -> None:
        await discard_picture(self._storage, PostprocessTask.of(claim))


async def stored_files(
    storage: Storage, image: NDArray[np.uint8], claim: Claim
) -> Sequence[StoredFile]:
    """What is there once a shelf has it."""
    return (await Shelf(storage).store(image, claim, None)).files


class Workshop:
    """Starts workers on the test's database."""

    def __init__(
        self,
        claims: Claims,
        bus: EventBus,
        folder: Path,
        store: PictureStore,
        storage: Storage | None = None,
    ) -> None:
        """``storage`` has the sources, if there are any."""
        self._claims, self._bus, self._folder, self._store = claims, bus, folder, store
        self._storage = storage

    async def _load_source(self, claim: Claim) -> Source:
        assert self._storage
        return await SourceLoader(self._storage, SETTINGS, self._folder / "loras").load(claim)

    def models(self) -> ModelPool:
        return ModelPool.of(load_model(self._folder, "cpu"), MODEL)

    @asynccontextmanager
    async def worker(
        self,
        store: PictureStore | None = None,
        models: ModelPool | None = None,
        hidden: Collection[str] = (),
    ) -> AsyncIterator[tuple[Worker, EngineRunner, asyncio.Task[None]]]:
        engine = DiffusionEngine(models or self.models(), SETTINGS.max_batch)
        store = store or self._store
        worker = Worker(self._claims, self._bus, self._load_source, store, SETTINGS, hidden)
        runner = EngineRunner(engine, worker.take)
        runner.start()
        task = asyncio.create_task(worker.run(runner, "cpu"))
        try:
            yield worker, runner, task
        finally:
            if not task.done():
                await worker.drain()
                await task


@pytest.fixture
def workshop(claims: Claims, bus: EventBus, model_folder: Path, storage: Storage) -> Workshop:
    return Workshop(claims, bus, model_folder, Shelf(storage), storage)


async def until_running(jobs: Jobs, tenant_id: UUID, job: Job) -> None:
    async with asyncio.timeout(20), jobs.feeds.open(tenant_id) as feed:
        await feed.watch(job.id)
        while (event := await feed.next()) is None or event.type is not EventType.PROGRESS:
            pass


async def test_a_job_ends_with_files_that_match_their_digests(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, storage: Storage
) -> None:
    async with workshop.worker():
        job = await jobs.submit(tenant_id, ask(n=3))
        done = await jobs.wait(tenant_id, job.id, 30)
    assert done.state is JobState.SUCCEEDED
    for image in done.images:
        assert [variant.name for variant in image.variants] == ["original", "thumbnail"]
        for variant in image.variants:
            file = await storage.get(variant.storage_key)
            assert hashlib.sha256(file).hexdigest() == variant.sha256
            assert len(file) == variant.size


@pytest.mark.parametrize(
    ("partial_images", "hidden", "every"),
    [(0, (), SETTINGS.preview_every), (3, (), 5), (0, {MODEL}, 0), (3, {MODEL}, 0)],
)
async def test_partial_images_set_how_often_a_picture_is_shown(
    workshop: Workshop,
    jobs: Jobs,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
    partial_images: int,
    hidden: Collection[str],
    every: int,
) -> None:
    """Unless nobody may see it before it is judged."""
    asked: list[Request] = []
    async with workshop.worker(hidden=hidden) as (_, runner, _task):
        submit = runner.submit

        def noted(request: Request) -> None:
            asked.append(request)
            submit(request)

        monkeypatch.setattr(runner, "submit", noted)
        job = await jobs.submit(
            tenant_id, ask(num_inference_steps=20, partial_images=partial_images)
        )
        assert (await jobs.wait(tenant_id, job.id, 30)).state is JobState.SUCCEEDED
    assert [request.preview_every for request in asked] == [every]


async def test_a_cancelled_job_leaves_the_batch_and_its_mate_goes_on(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID
) -> None:
    async with workshop.worker() as (_, runner, _task):
        long = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, long)
        mate = await jobs.submit(tenant_id, ask(num_inference_steps=40))
        await jobs.cancel(tenant_id, long.id)
        assert (await jobs.wait(tenant_id, mate.id, 30)).state is JobState.SUCCEEDED
        assert runner.stats().active == 0
    assert (await jobs.get(tenant_id, long.id)).state is JobState.CANCELLED


async def test_draining_hands_back_what_it_cannot_finish(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.serve.worker.test_worker.SETTINGS", SETTINGS.model_copy(update={"drain_s": 0.1})
    )
    async with workshop.worker() as (worker, _, task):
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)
        await worker.drain()
        await task
    (image,) = (await jobs.get(tenant_id, job.id)).images
    assert (image.state, image.crashes, image.worker_id) == (JobState.QUEUED, 0, None)
    assert await jobs.workers() == []


async def test_draining_takes_no_longer_than_is_asked(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID
) -> None:
    async with workshop.worker() as (worker, _, task):
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)
        await worker.drain(0.1)
        await task
    (image,) = (await jobs.get(tenant_id, job.id)).images
    assert (image.state, image.crashes, image.worker_id) == (JobState.QUEUED, 0, None)


async def test_a_worker_that_lost_its_lease_drops_its_work_and_begins_anew(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, database: Database
) -> None:
    async with workshop.worker() as (_, runner, _task):
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)
        (before,) = await jobs.workers()
        async with database.transaction() as session:  # as the reaper does
            await session.execute(
                text("UPDATE images SET state = 'queued', worker_id = NULL, crashes = 1")
            )
            await session.execute(text("DELETE FROM workers"))
        await jobs.cancel(tenant_id, job.id)
        async with asyncio.timeout(10):
            while runner.stats().active or not await jobs.workers():
                await asyncio.sleep(0.05)
        (after,) = await jobs.workers()
        assert after.id != before.id
        again = await jobs.submit(tenant_id, ask())
        assert (await jobs.wait(tenant_id, again.id, 30)).state is JobState.SUCCEEDED


async def test_a_worker_whose_engine_hangs_lets_its_lease_go(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineRunner, "patience", 1.0)
    goes_on = threading.Event()
    async with workshop.worker():
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)
        step = DiffusionEngine.step

        def hang(engine: DiffusionEngine) -> list[Output]:
            goes_on.wait(30)
            return step(engine)

        monkeypatch.setattr(DiffusionEngine, "step", hang)
        await asyncio.sleep(2)
        (before,) = await jobs.workers()
        await asyncio.sleep(1.5)
        (after,) = await jobs.workers()
        assert before.heartbeat_at == after.heartbeat_at
        goes_on.set()
        async with asyncio.timeout(10):
            while (await jobs.workers())[0].heartbeat_at == after.heartbeat_at:
                await asyncio.sleep(0.1)
        await jobs.cancel(tenant_id, job.id)


async def test_one_replica_draws_with_two_models_that_have_room_for_one(
    claims: Claims,
    bus: EventBus,
    database: Database,
    jobs: Jobs,
    tenant_id: UUID,
    storage: Storage,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    second = tmp_path / "second"
    build_pipeline(layers_per_block=2).save_pretrained(second)
    pool = open_pool(
        Settings(
            model=ModelSettings(name=MODEL, path=str(model_folder), device="cpu"),
            models={"second": FurtherModelSettings(path=str(second), device="cpu")},
            worker=SETTINGS.model_copy(
                update={"model_bytes": 1, "threads": torch.get_num_threads()}
            ),
        )
    )
    claims = Claims(database, bus, pool.names)
    async with Workshop(claims, bus, model_folder, Shelf(storage)).worker(models=pool):
        asked = [ask(model=name) for name in (MODEL, "second", MODEL, "second")]
        submitted = [await jobs.submit(tenant_id, each) for each in asked]
        done = [await jobs.wait(tenant_id, job.id, 30) for job in submitted]
        assert len(pool.loaded) == 1
    assert {job.state for job in done} == {JobState.SUCCEEDED}
    alone = {MODEL: draw_alone(model_folder), "second": draw_alone(second)}
    assert np.abs(alone[MODEL] - alone["second"]).max() > 10
    for job in done:
        file = await storage.get(job.images[0].variants[0].storage_key)
        origin = read_origin(file)
        assert origin is not None
        assert origin.parameters["model"] == job.model
        assert origin.created_at == job.created_at.isoformat(timespec="seconds")
        assert origin.software == f"Sfumato {version('sfumato')}"
        pixels = np.asarray(Image.open(io.BytesIO(file)), dtype=np.int16)
        assert np.abs(pixels - alone[job.model]).max() <= 1  # rounding, by the batch's size


def draw_alone(folder: Path) -> NDArray[np.int16]:
    """What ``ask`` asks for, from one model by itself; levels from 0 to 255."""
    engine = DiffusionEngine(load_model(folder, "cpu"))
    engine.add(Request("alone", ask().sampling(0)))
    outputs: list[Output] = []
    while engine.has_work:
        outputs += engine.step()
    result = outputs[-1]
    assert isinstance(result, Result)
    return result.image.astype(np.int16)


async def test_what_the_models_safety_checker_refuses_violates_the_content_policy(
    claims: Claims,
    bus: EventBus,
    jobs: Jobs,
    tenant_id: UUID,
    tmp_path: Path,
) -> None:
    """As what a classifier refuses: no second try, no file, and 400 for who waits."""
    checker = safety_checker.build_parts()
    safety_checker.refuse_everything(checker)
    parts = build_pipeline().components | checker
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "checked")
    stored = open_storage((tmp_path / "pictures").as_uri())
    workshop = Workshop(claims, bus, tmp_path / "checked", Shelf(stored))
    async with workshop.worker() as (_, runner, task), jobs.feeds.open(tenant_id) as feed:
        job = await jobs.submit(tenant_id, ask())
        await feed.watch(job.id)
        failed = await jobs.wait(tenant_id, job.id, 30)
        while (event := await feed.next()) is None or not event.type.terminal:
            pass
        assert runner.stats().failed == 1
        assert not task.done()
    as_by_a_classifier = refused_picture()
    assert failed.state is JobState.FAILED
    assert failed.error == as_by_a_classifier.message
    assert failed.error_code == as_by_a_classifier.code == "content_policy_violation"
    assert outcome_error(failed).status == 400
    assert (event.type, event.data["code"]) == (EventType.FAILED, "content_policy_violation")
    assert [image.attempt for image in failed.images] == [1]
    assert [found async for page in stored.list() for found in page] == []


async def test_a_picture_that_cannot_be_stored_fails_its_job(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, storage: Storage
) -> None:
    async def full(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        raise PictureFailed("The disk is full.")

    async with workshop.worker(Shelf(storage, full)):
        job = await jobs.submit(tenant_id, ask())
        failed = await jobs.wait(tenant_id, job.id, 30)
    assert (failed.state, failed.error) == (JobState.FAILED, "The disk is full.")


async def test_an_unforeseen_error_in_delivery_fails_the_job_and_not_the_worker(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, storage: Storage
) -> None:
    async def broken(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        raise ZeroDivisionError

    async with workshop.worker(Shelf(storage, broken)) as (_, _runner, task):
        job = await jobs.submit(tenant_id, ask())
        failed = await jobs.wait(tenant_id, job.id, 30)
        assert not task.done()
    assert failed.state is JobState.FAILED
    assert failed.error == "The picture could not be delivered: ZeroDivisionError."


async def test_a_claim_whose_answer_was_lost_is_drawn_all_the_same(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claims.claim
    lost: list[Claim] = []

    async def answer_lost(*args: Any, **room: Any) -> list[Claim]:
        claimed = await claim(*args, **room)
        if claimed and not lost:
            lost.extend(claimed)
            raise DatabaseUnavailable("the connection broke after COMMIT")
        return claimed

    monkeypatch.setattr(Claims, "claim", answer_lost)
    async with workshop.worker():
        job = await jobs.submit(tenant_id, ask(n=2))
        done = await jobs.wait(tenant_id, job.id, 30)
    assert lost
    assert done.state is JobState.SUCCEEDED
    assert [image.attempt for image in done.images] == [1, 1]


async def test_a_picture_that_is_committed_while_a_lost_answer_is_made_up_for_is_not_drawn_again(
    workshop: Workshop,
    jobs: Jobs,
    tenant_id: UUID,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Postgres said of before the commit is no claim; its files, once committed, stay."""
    claim, held = Claims.claim, Claims.held
    may_store, looked = asyncio.Event(), asyncio.Event()
    answer_lost = False
    stored: list[UUID] = []

    async def store(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        await may_store.wait()
        stored.append(claim.image_id)
        return await stored_files(storage, image, claim)

    async def lose_one(*args: Any, **room: Any) -> list[Claim]:
        nonlocal answer_lost
        claimed = await claim(*args, **room)
        if stored or worker.delivering != 1 or answer_lost:
            return claimed
        answer_lost = True
        raise DatabaseUnavailable("the connection broke after COMMIT")

    async def answer_late(*args: Any) -> Sequence[Claim]:
        answer = await held(*args)
        if answer_lost and not looked.is_set():
            looked.set()
            may_store.set()
            while worker.delivering:
                await asyncio.sleep(0.01)
        return answer

    monkeypatch.setattr(Claims, "claim", lose_one)
    monkeypatch.setattr(Claims, "held", answer_late)
    async with workshop.worker(Shelf(storage, store)) as (worker, _, _task):
        job = await jobs.submit(tenant_id, ask())
        done = await jobs.wait(tenant_id, job.id, 30)
        await asyncio.sleep(1)
    assert looked.is_set()
    assert done.state is JobState.SUCCEEDED
    assert stored == [image.id for image in done.images]
    for variant in done.images[0].variants:
        assert await storage.get(variant.storage_key)


async def test_files_of_a_failed_delivery_stay_where_the_claim_was_lost(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, storage: Storage, database: Database
) -> None:
    """Whoever holds it now, or has committed it, may need them; else the sweeper comes."""
    files: list[StoredFile] = []

    async def store(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        files.extend(await stored_files(storage, image, claim))
        async with database.transaction() as session:
            await session.execute(text("UPDATE images SET attempt = attempt + 1"))
        raise PictureFailed("The answer was lost.")

    async with workshop.worker(Shelf(storage, store)) as (worker, _, _task):
        await jobs.submit(tenant_id, ask())
        async with asyncio.timeout(30):
            while not files or worker.delivering:
                await asyncio.sleep(0.05)
    for file in files:
        assert await storage.get(file.storage_key)


async def test_an_engine_that_dies_blames_nobody(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop.worker() as (_, _runner, task):
        job = await jobs.submit(tenant_id, ask(num_inference_steps=LONG))
        await until_running(jobs, tenant_id, job)

        def break_down(engine: DiffusionEngine) -> None:
            raise SystemError("the device fell off the bus")

        monkeypatch.setattr(DiffusionEngine, "step", break_down)
        with pytest.raises(EngineDied):
            async with asyncio.timeout(10):
                await task
    still = await jobs.get(tenant_id, job.id)
    assert still.state is JobState.RUNNING  # the reaper queues it again, with a charge
    assert await jobs.workers() == []


async def test_pictures_that_wait_for_storage_hold_the_worker_back(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, database: Database, storage: Storage
) -> None:
    """Else, while storage is away, it would draw all that there is, and hold it in memory."""
    answers = asyncio.Event()

    async def slow(image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        await answers.wait()
        return await stored_files(storage, image, claim)

    async with workshop.worker(Shelf(storage, slow)) as (worker, _, _task):
        submitted = [await jobs.submit(tenant_id, ask(n=10)) for _ in range(3)]
        async with asyncio.timeout(60):
            while worker.delivering < 2 * SETTINGS.max_batch:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
        async with database.transaction() as session:
            running = text("SELECT count(*) FROM images WHERE state = 'running'")
            assert (await session.scalars(running)).one() <= 4 * SETTINGS.max_batch
        answers.set()
        done = [await jobs.wait(tenant_id, job.id, 60) for job in submitted]
    assert {job.state for job in done} == {JobState.SUCCEEDED}


async def test_a_new_worker_gets_what_another_holds_and_has_hardly_begun(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, database: Database
) -> None:
    async def held() -> list[int]:
        async with database.transaction() as session:
            counts = text(
                "SELECT count(*) FROM images WHERE state = 'running' GROUP BY worker_id ORDER BY 1"
            )
            return list((await session.scalars(counts)).all())

    async def until(counts: list[int]) -> None:
        async with asyncio.timeout(30):
            while await held() != counts:
                await asyncio.sleep(0.1)

    async with workshop.worker():
        job = await jobs.submit(tenant_id, ask(n=8, num_inference_steps=LONG))
        await until([8])
        async with workshop.worker():
            await until([4, 4])
            assert {image.crashes for image in (await jobs.get(tenant_id, job.id)).images} == {0}
            await jobs.cancel(tenant_id, job.id)


async def test_a_picture_of_another_size_is_not_delivered(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID
) -> None:
    family = load_model(workshop._folder, "cpu")
    assert isinstance(family, Family)
    decode = family.decode
    family.decode = lambda latents: decode(latents)[..., :-8]  # type: ignore[method-assign]
    async with workshop.worker(models=ModelPool.of(family, MODEL)):
        job = await jobs.submit(tenant_id, ask())
        done = await jobs.wait(tenant_id, job.id, 30)

    assert done.state is JobState.FAILED
    assert done.error is not None
    assert done.error.startswith("The model drew 56x64 pixels for 64x64")
    assert done.images[0].variants == []


async def test_a_paying_job_is_drawn_between_two_steps_of_a_background_one(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, database: Database
) -> None:
    idle = await make_tenant(database, "idle")
    async with database.transaction() as session:
        await session.execute(text("UPDATE tenants SET weight = 0 WHERE name = 'idle'"))
    async with workshop.worker() as (_, runner, _task):
        kept = await jobs.submit(idle, ask(n=SETTINGS.max_batch, num_inference_steps=LONG))
        await until_running(jobs, idle, kept)
        for _ in range(3):
            paid = await jobs.submit(tenant_id, ask(num_inference_steps=40))
            assert (await jobs.wait(tenant_id, paid.id, 30)).state is JobState.SUCCEEDED
        assert runner.stats().background == SETTINGS.max_batch
        images = (await jobs.get(idle, kept.id)).images
        assert {(image.state, image.attempt) for image in images} == {(JobState.RUNNING, 1)}
        await jobs.cancel(idle, kept.id)
