"""Hires fix: two passes of one claim, on a real engine, Postgres, Valkey and files."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.request import Request, Result, SamplingParams
from pipelines.imaging.enlarge import enlarge
from pipelines.imaging.metadata.read import read_origin
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.jobs.price import PriceList
from serve.jobs.request import HiresFix
from serve.storage import Storage
from serve.tables import JobState
from tests.serve.conftest import ask
from tests.serve.worker.test_worker import LONG, Workshop, storage, until_running, workshop

__all__ = ["storage", "workshop"]

HIRES = HiresFix(scale=2, strength=0.5, num_inference_steps=6)


def drawn(folder: Path, params: SamplingParams) -> NDArray[np.uint8]:
    engine = DiffusionEngine(load_model(folder, "cpu"))
    (result,) = (
        each for each in engine.generate([Request("one", params)]) if isinstance(each, Result)
    )
    return result.image


async def test_the_picture_is_that_of_both_passes_by_hand(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID, storage: Storage, model_folder: Path
) -> None:
    request = ask(width=128, height=96, hires=HIRES)
    steps: list[tuple[int, int]] = []
    async with workshop.worker() as (_, runner, _task), jobs.feeds.open(tenant_id) as feed:
        other = await jobs.submit(tenant_id, ask(width=128, height=96, num_inference_steps=LONG))
        await until_running(jobs, tenant_id, other)
        job = await jobs.submit(tenant_id, request)
        await feed.watch(job.id)
        async with asyncio.timeout(30):
            while (event := await feed.next()) is None or not event.type.terminal:
                if event is not None and event.type is EventType.PROGRESS:
                    steps.append((event.data["step"], event.data["steps"]))
        await jobs.cancel(tenant_id, other.id)
        taken = [step for step in runner.take_steps() if step.requests > 1]
    assert {(step.width, step.height) for step in taken} == {(128, 96)}, "the second pass shares"

    assert steps == sorted(steps)
    assert {of for _, of in steps} == {4 + 3}
    (image,) = (await jobs.get(tenant_id, job.id)).images
    assert image.state is JobState.SUCCEEDED
    (original,) = (each for each in image.variants if each.name == "original")
    file = await storage.get(original.storage_key)
    picture = np.asarray(Image.open(io.BytesIO(file)))

    first = drawn(model_folder, replace(request, width=64, height=48, hires=None).sampling(0))
    params = request.second_sampling(0, HIRES, enlarge(first, 128, 96))
    assert params.strength == HIRES.strength
    expected = drawn(model_folder, params)
    assert np.abs(picture.astype(int) - expected).max() <= 1, "by the company in its steps"

    origin = read_origin(file)
    assert origin is not None
    assert origin.parameters["hires"] == {"scale": 2, "strength": 0.5, "num_inference_steps": 6}
    assert (origin.parameters["width"], origin.parameters["height"]) == (128, 96)


async def test_it_may_be_cancelled_in_its_second_pass(
    workshop: Workshop, jobs: Jobs, tenant_id: UUID
) -> None:
    hires = replace(HIRES, strength=1.0, num_inference_steps=LONG)
    async with workshop.worker() as (_, runner, _task):
        job = await jobs.submit(tenant_id, ask(width=128, height=128, hires=hires))
        async with asyncio.timeout(30), jobs.feeds.open(tenant_id) as feed:
            await feed.watch(job.id)
            while (event := await feed.next()) is None or event.data.get("step", 0) < 10:
                pass
        await jobs.cancel(tenant_id, job.id)
        async with asyncio.timeout(10):
            while runner.stats().active:
                await asyncio.sleep(0.05)
    assert (await jobs.get(tenant_id, job.id)).state is JobState.CANCELLED


def test_both_passes_are_paid_for() -> None:
    small = PriceList().price(ask(num_inference_steps=4)).device
    large = PriceList().price(ask(width=128, height=128, num_inference_steps=3)).device
    both = PriceList().price(ask(width=128, height=128, num_inference_steps=4, hires=HIRES)).device
    assert abs(both - small - large) < 1e-6 * both
