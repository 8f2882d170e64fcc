"""LoRAs, ControlNets and clip_skip from a body to a picture: the app, a worker and its engine."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.request import (
    ControlImage,
    LoraScale,
    Request,
    Result,
    SamplingParams,
)
from pipelines.diffusion.runner import EngineRunner
from pipelines.imaging.metadata.read import read_metadata
from pipelines.imaging.source import open_upload, source_pixels
from serve.api.services import Services, open_services
from serve.deployments.pool import open_pool
from serve.jobs.admission import QueueView
from serve.jobs.request import JobRequest
from serve.settings import DEFAULT_POOL, ModelSettings, Settings, WorkerSettings
from serve.worker.claims import Claims
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker
from tests.pipelines.diffusion.lora.lora_files import matrices, save_peft
from tests.pipelines.diffusion.tiny.controlnet import build_controlnet
from tests.pipelines.diffusion.tiny.stable_diffusion import UNET, build_pipeline
from tests.serve.api.conftest import count_rows
from tests.serve.api.drawing import Desk
from tests.serve.api.limited import EACH, PROMPT, Limit, limit
from tests.serve.api.refusals.uploads import file_of, picture, png
from tests.serve.worker.test_worker import Shelf

__all__ = ["limit"]

WORKER = WorkerSettings(max_batch=4, preview_every=0, poll_s=0.1, threads=1)
ASKED: dict[str, Any] = {
    "prompt": "red heart",
    "size": "64x64",
    "num_inference_steps": 4,
    "guidance_scale": 4.0,
    "seed": 7,
}
FOLLOWED = picture(64, 64)
URL = f"data:image/png;base64,{base64.b64encode(file_of(FOLLOWED)).decode()}"
EDGES = {"name": "edges", "scale": 0.8, "start": 0.0, "end": 0.75}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    """A model with random weights, a LoRA and a ControlNet for it."""
    folder = tmp_path_factory.mktemp("tiny")
    pipeline = build_pipeline()
    pipeline.save_pretrained(folder)
    build_controlnet(UNET).save_pretrained(folder / "edges")
    ink = save_peft(folder / "ink.safetensors", matrices(pipeline, seed=1))
    return ModelSettings(
        path=str(folder), loras={"ink": ink}, controlnets={"edges": folder / "edges"}
    )


@pytest.fixture
def services(settings: Settings, tiny: ModelSettings) -> Services:
    update = {"model": tiny, "worker": WORKER, "models": {}}
    return open_services(settings.model_copy(update=update))


@pytest.fixture
async def worker(app: FastAPI, services: Services) -> AsyncIterator[None]:
    """A diffusion replica's, in this process."""
    engine = DiffusionEngine(open_pool(services.settings), WORKER.max_batch, threads=1)
    claims = Claims(services.database, services.bus, list(services.settings.served))
    sources = SourceLoader(services.storage, WORKER, services.settings.lora_folder)
    worker = Worker(claims, services.bus, sources.load, Shelf(services.storage), WORKER)
    runner = EngineRunner(engine, worker.take)
    runner.start()
    task = asyncio.create_task(worker.run(runner, "cpu"))
    yield
    await worker.drain()
    await task


def alone(services: Services, **asked: Any) -> NDArray[np.uint8]:
    """By the engine, without a service around it; with other threads sums round otherwise."""
    torch.set_num_threads(1)
    plain = {**ASKED, "width": 64, "height": 64}
    del plain["size"]
    engine = DiffusionEngine(open_pool(services.settings))
    engine.add(Request("alone", SamplingParams(**{**plain, **asked})))
    outputs = [output for _ in iter(lambda: engine.has_work, False) for output in engine.step()]
    engine.close()
    assert isinstance(outputs[-1], Result), outputs[-1]
    return outputs[-1].image


async def drawn(client: httpx2.AsyncClient, **asked: Any) -> NDArray[np.uint8]:
    answer = await client.post("/v1/images/generations", json={**ASKED, **asked})
    return pixels_of(answer)


def pixels_of(answer: httpx2.Response) -> NDArray[np.uint8]:
    assert answer.status_code == 200, answer.text
    file = base64.b64decode(answer.json()["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(file)))


def control() -> ControlImage:
    return ControlImage("edges", np.asarray(FOLLOWED), 0.8, 0.0, 0.75)


@pytest.mark.usefixtures("worker")
async def test_each_changes_the_picture_as_in_the_engine_alone(
    client: httpx2.AsyncClient, services: Services
) -> None:
    plain = await drawn(client)
    pictures: list[tuple[NDArray[np.uint8], dict[str, Any]]] = [
        (
            await drawn(client, loras=[{"name": "ink", "scale": 0.7}]),
            {"loras": (LoraScale("ink", 0.7),)},
        ),
        (await drawn(client, control={**EDGES, "image": URL}), {"control": control()}),
        (await drawn(client, clip_skip=1), {"clip_skip": 1}),
        (await drawn(client, clip_skip=2), {"clip_skip": 2}),
    ]

    assert np.array_equal(plain, alone(services))
    for picture_drawn, asked in pictures:
        assert np.abs(picture_drawn.astype(int) - plain).max() > 2, asked.keys()
        assert np.array_equal(picture_drawn, alone(services, **asked)), asked.keys()


@pytest.mark.usefixtures("worker")
async def test_a_job_follows_an_earlier_picture(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services
) -> None:
    job = await _ended(client, {**ASKED, "size": "96x64", "output_format": "webp"})
    image_id = job["images"][0]["id"]
    file = (await client.get(f"/v1/images/{image_id}/original")).content
    asked = {**ASKED, "control": {"name": "edges", "image": image_id}}

    theirs = await stranger.post("/v1/jobs", json=asked)
    followed = await _ended(client, asked)
    told = await client.get(f"/v1/images/{followed['images'][0]['id']}/original")
    await client.delete(f"/v1/images/{image_id}")
    gone = await client.post("/v1/jobs", json=asked)

    fitted = source_pixels(open_upload(file), (64, 64))
    expected = alone(services, control=ControlImage("edges", fitted))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(told.content))), expected)
    assert followed["params"]["control"] == {
        "name": "edges",
        "scale": 1.0,
        "start": 0.0,
        "end": 1.0,
    }
    for refused in (theirs, gone):
        assert (refused.status_code, refused.json()["param"]) == (422, "control.image")
        assert refused.json()["detail"].startswith("control.image: there is no finished picture")


async def _ended(client: httpx2.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    job = (await client.post("/v1/jobs", json=body)).json()
    async with asyncio.timeout(20):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert job["state"] == "succeeded", job
    ended: dict[str, Any] = job
    return ended


@pytest.mark.usefixtures("worker")
async def test_an_edit_follows_an_uploaded_picture(
    client: httpx2.AsyncClient, services: Services
) -> None:
    image = picture(64, 64).rotate(180)
    form = {name: str(value) for name, value in ASKED.items()}
    more = {"strength": "1.0", "control": json.dumps(EDGES), "loras": '[{"name": "ink"}]'}
    answer = await client.post(
        "/v1/images/edits",
        data={**form, **more},
        files={"image": file_of(image), "control_image": file_of(FOLLOWED)},
    )

    expected = alone(
        services,
        image=np.asarray(image),
        strength=1.0,
        control=control(),
        loras=(LoraScale("ink"),),
    )
    assert np.array_equal(pixels_of(answer), expected)


async def test_what_a_file_tells_of_it(client: httpx2.AsyncClient, services: Services) -> None:
    loras = [{"name": "ink", "scale": 0.7}]
    asked = {**ASKED, "loras": loras, "clip_skip": 1, "control": {**EDGES, "image": URL}}
    job = (await client.post("/v1/jobs", json=asked)).json()
    desk = Desk(services)
    (claim,) = await desk.claim()
    await desk.finish(claim)

    file = await client.get(f"/v1/images/{job['images'][0]['id']}/original")
    told = read_metadata(file.content)
    assert told is not None
    assert (told["loras"], told["clip_skip"], told["control"]) == (loras, 1, EDGES)


async def test_the_same_body_is_the_same_job(
    client: httpx2.AsyncClient, services: Services
) -> None:
    headers = {"Idempotency-Key": "a"}
    body = {**ASKED, "control": {**EDGES, "image": URL}, "loras": [{"name": "ink"}]}
    other = f"data:image/png;base64,{base64.b64encode(file_of(FOLLOWED.rotate(90))).decode()}"

    first, again = [await client.post("/v1/jobs", json=body, headers=headers) for _ in range(2)]
    conflicts = [
        await client.post("/v1/jobs", json={**body, **change}, headers=headers)
        for change in (
            {"control": {**EDGES, "image": other}},
            {"control": {**EDGES, "image": URL, "end": 0.8}},
            {"loras": [{"name": "ink", "scale": 0.9}]},
            {"clip_skip": 1},
        )
    ]

    assert first.status_code == 202, first.text
    assert first.json()["id"] == again.json()["id"]
    assert [each.json()["code"] for each in conflicts] == ["idempotency_conflict"] * 4
    assert await count_rows(services.database, "jobs") == 1


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("refusal", ["overloaded", "rate_limit_exceeded"])
async def test_what_cannot_be_drawn_by_now_is_not_decoded(
    client: httpx2.AsyncClient, services: Services, limit: Limit, path: str, refusal: str
) -> None:
    """The header of its picture is sound, and the pixels are not: whoever decodes it sees that."""
    file = base64.b64encode(png(64, 48, b"no pixels")).decode()
    body = {**PROMPT, "control": {"name": "edges", "image": f"data:image/png;base64,{file}"}}
    decoded = await client.post(path, json=body)
    assert decoded.status_code in (400, 422), decoded.text

    if refusal == "overloaded":
        services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
            services.database, list(services.settings.served), 0.1 * EACH
        )
        await client.post("/v1/jobs", json=PROMPT)
    else:
        await limit(gpu_seconds_per_minute=EACH)
        await client.post("/v1/jobs", json={**PROMPT, "n": 2})
    refused = await client.post(path, json=body)

    assert refused.status_code == 429, refused.text
    assert await count_rows(services.database, "sources") == 0


async def test_the_names_are_told(client: httpx2.AsyncClient, services: Services) -> None:
    told = (await client.get(f"/v1/models/{services.settings.model.name}")).json()

    assert (told["loras"], told["controlnets"], told["max_clip_skip"]) == (["ink"], ["edges"], 2)
    unknown = await client.post("/v1/jobs", json={**ASKED, "loras": [{"name": "oil"}]})
    assert unknown.json()["detail"] == "loras: There is no LoRA 'oil'; this model has 'ink'."


def test_requests_of_before_read_as_they_were_written() -> None:
    """Their digests hold as well: a client may come back under its Idempotency-Key."""
    old = JobRequest(
        model="m", prompt="p", width=8, height=8, num_inference_steps=1, guidance_scale=1.0, seed=0
    )
    params = old.as_params()
    assert params.keys().isdisjoint({"loras", "control", "control_image", "clip_skip", "image"})
    assert JobRequest.from_params(params) == old


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
async def test_compression_0_is_the_smallest_file(
    client: httpx2.AsyncClient, output_format: str
) -> None:
    sizes = []
    for quality in (0, 90):
        asked = {**ASKED, "output_format": output_format, "output_compression": quality}
        job = await _ended(client, asked)
        sizes.append(job["images"][0]["variants"][0]["bytes"])
    assert sizes[0] < sizes[1]
