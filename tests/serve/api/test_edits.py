"""OpenAI's edits and variations, asked by OpenAI's own clients."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image

from serve.api.app import create_app
from serve.api.services import Services
from serve.jobs.limits import ServedModels
from serve.worker.queue import Claim
from tests.serve.api.conftest import MODEL
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import (
    data_url,
    edit_of,
    file_of,
    mask_of,
    picture,
    upload,
)
from tests.serve.api.test_generations import first_job
from tests.serve.api.test_picture_stream import glimpses

GOOD = file_of(picture())
ASKED: dict[str, Any] = {"model": "sfumato-embedded", "prompt": "a red heart"}


@pytest.fixture
async def openai_client(server: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as client:
        yield client


async def finished(client: httpx2.AsyncClient, services: Services) -> Claim:
    """Finish the pictures of the first job; one of them."""
    desk = Desk(services)
    await first_job(client)
    claims = await desk.claim()
    for claim in claims:
        await desk.finish(claim)
    return claims[0]


def opened(base64_file: str | None) -> Image.Image:
    assert base64_file
    return Image.open(io.BytesIO(base64.b64decode(base64_file)))


def forms(folder: Path) -> dict[str, Any]:
    """A file in every form that OpenAI's client takes."""
    path = folder / "cat.png"
    path.write_bytes(GOOD)
    return {
        "bytes": GOOD,
        "a path": path,
        "a file": path.open("rb"),
        "a buffer": io.BytesIO(GOOD),
        "a name and bytes": ("cat.png", GOOD),
        "with a media type": ("cat.png", GOOD, "image/png"),
        "a list": [path],
    }


@pytest.mark.parametrize("form", forms(Path("/tmp")))  # noqa: S108 - for the names alone
async def test_openai_client_edits(
    openai_client: openai.AsyncOpenAI,
    client: httpx2.AsyncClient,
    services: Services,
    tmp_path: Path,
    form: str,
) -> None:
    drawing = asyncio.create_task(finished(client, services))
    answer = await openai_client.images.edit(image=forms(tmp_path)[form], **ASKED)
    claim = await drawing

    assert answer.data
    assert opened(answer.data[0].b64_json).size == (64, 48)
    assert (claim.request.strength, claim.request.mask) == (0.8, None)


async def test_openai_client_edits_within_a_mask(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(finished(client, services))
    answer = await openai_client.images.edit(
        image=GOOD,
        mask=file_of(mask_of()),
        n=2,
        size="512x512",
        quality="low",
        background="opaque",
        output_format="webp",
        output_compression=50,
        response_format="url",
        input_fidelity="high",
        user="u",
        extra_body={"seed": 3, "guidance_scale": 2.5, "scheduler": "ddim", "priority": 1},
        **ASKED,
    )
    claim = await drawing

    request = claim.request
    assert (request.width, request.height, request.n) == (512, 512, 2)
    assert (request.seed, request.guidance_scale, request.scheduler) == (3, 2.5, "ddim")
    assert (request.strength, request.num_inference_steps, request.priority) == (0.8, 10, 1)
    assert request.mask
    assert answer.data
    assert answer.usage
    assert answer.usage.input_tokens_details.image_tokens == 32 * 32
    async with httpx2.AsyncClient() as anyone:
        for told in answer.data:
            file = await anyone.get(told.url or "")
            assert Image.open(io.BytesIO(file.content)).format == "WEBP"


async def test_openai_client_streams_an_edit(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(finished(client, services))
    stream = await openai_client.images.edit(image=GOOD, stream=True, partial_images=1, **ASKED)
    told = [event async for event in stream]
    await drawing

    assert [event.type for event in told] == ["image_edit.completed"]
    assert opened(told[0].b64_json).size == (64, 48)


async def test_openai_client_sees_an_edit_on_its_way(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services
) -> None:
    async def draw() -> None:
        desk = Desk(services)
        await first_job(client)
        (claim,) = await desk.claim()
        await glimpses(services, claim)
        await desk.finish(claim)

    drawing = asyncio.create_task(draw())
    stream = await openai_client.images.edit(
        image=GOOD, size="128x64", stream=True, partial_images=2, output_format="webp", **ASKED
    )
    *partial, last = [event async for event in stream]
    await drawing

    assert [event.type for event in partial] == ["image_edit.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert last.type == "image_edit.completed"
    for event in (*partial, last):
        shown = opened(event.b64_json)
        assert (shown.size, shown.format) == ((128, 64), "WEBP")
        assert (event.size, event.output_format) == ("128x64", "webp")
    first, second = [np.asarray(opened(event.b64_json).convert("L")).mean() for event in partial]
    assert first < second  # as the glimpses grow lighter


async def test_openai_client_varies(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(finished(client, services))
    answer = await openai_client.images.create_variation(
        image=GOOD, model="sfumato-embedded", n=2, response_format="b64_json", user="u"
    )
    claim = await drawing

    assert answer.data
    assert [opened(each.b64_json).size for each in answer.data] == [(64, 48)] * 2
    assert (claim.request.prompt, claim.request.strength) == ("", 0.6)


async def test_openai_client_without_async(
    server: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(finished(client, services))

    def ask() -> tuple[object, object]:
        with openai.OpenAI(base_url=f"{server}/v1", api_key=key) as blocking:
            edited = blocking.images.edit(image=GOOD, mask=file_of(mask_of()), **ASKED)
            with pytest.raises(openai.BadRequestError) as refused:
                blocking.images.create_variation(image=b"GIF89a")
        return edited, refused.value

    edited, refused = await asyncio.to_thread(ask)
    await drawing
    assert isinstance(edited, openai.types.ImagesResponse)
    assert isinstance(refused, openai.BadRequestError)
    assert (refused.code, refused.param) == ("unsupported_image", "image")


@pytest.mark.parametrize(
    ("size", "asked", "drawn"),
    [
        ((64, 64), "auto", (64, 64)),
        ((200, 100), "auto", (80, 48)),
        ((20, 30), "auto", (16, 32)),
        ((1000, 3), "auto", (512, 8)),
        ((200, 100), "64x128", (64, 128)),
    ],
)
async def test_sizes(
    client: httpx2.AsyncClient,
    services: Services,
    size: tuple[int, int],
    asked: str,
    drawn: tuple[int, int],
) -> None:
    sent = upload(lambda: file_of(picture(*size)))()
    sent["data"]["size"] = asked
    drawing = asyncio.create_task(finished(client, services))
    answer = await client.post("/v1/images/edits", **sent)
    claim = await drawing

    assert answer.json()["size"] == f"{drawn[0]}x{drawn[1]}"
    file = await services.storage.get(str(claim.sources["image"]))
    assert Image.open(io.BytesIO(file)).size == drawn


async def test_a_model_of_text_alone_or_of_masks_says_so(
    services: Services, client: httpx2.AsyncClient, key: str
) -> None:
    models = {
        "sfumato-embedded": replace(MODEL, takes_image=False),
        "flow": replace(MODEL, needs_image=True, needs_mask=True),
    }
    app = create_app(replace(services, served=ServedModels(services.settings, models)))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as caller:
        caller.headers["X-API-Key"] = key
        sent = upload(lambda: GOOD)
        text_alone = await caller.post("/v1/images/edits", **sent())
        masks = sent()
        masks["data"]["model"] = "flow"
        without = await caller.post("/v1/images/edits", **masks)

    assert (text_alone.status_code, text_alone.json()["error"]["param"]) == (400, "model")
    assert (without.status_code, without.json()["error"]["param"]) == (400, "mask")


async def test_as_json(client: httpx2.AsyncClient, services: Services) -> None:
    claims = []
    for masked in (False, True):
        body = edit_of(data_url(GOOD), seed=7, n=1, num_inference_steps=4)
        if masked:
            body["mask"] = {"image_url": data_url(file_of(mask_of()))}
        drawing = asyncio.create_task(finished_next(client, services, 1 + masked))
        answer = await client.post("/v1/images/edits", json=body)
        claims.append(await drawing)
        assert answer.status_code == 200, answer.text
        assert opened(answer.json()["data"][0]["b64_json"]).size == (64, 48)

    assert [claim.request.mask is None for claim in claims] == [True, False]
    assert [claim.request.strength for claim in claims] == [0.8, 1.0]
    assert all(claim.request.image for claim in claims)


async def finished_next(client: httpx2.AsyncClient, services: Services, jobs: int) -> Claim:
    """Finish the only picture of the job that makes them so many."""
    async with asyncio.timeout(20):
        while len((await client.get("/v1/jobs")).json()["data"]) < jobs:
            await asyncio.sleep(0.01)
    desk = Desk(services)
    [claim] = await desk.claim()
    await desk.finish(claim)
    return claim


async def test_json_and_a_form_are_the_same_request(
    client: httpx2.AsyncClient, services: Services
) -> None:
    headers = {"Idempotency-Key": "edit-1"}
    drawing = asyncio.create_task(finished(client, services))
    body = edit_of(data_url(GOOD))
    by_json = await client.post("/v1/images/edits", json=body, headers=headers)
    await drawing
    by_form = await client.post("/v1/images/edits", **upload(lambda: GOOD)(), headers=headers)

    assert by_json.status_code == by_form.status_code == 200
    assert by_json.json()["data"] == by_form.json()["data"]


async def test_base64_may_be_wrapped(client: httpx2.AsyncClient, services: Services) -> None:
    url = "data:application/octet-stream;base64," + base64.encodebytes(GOOD).decode()
    drawing = asyncio.create_task(finished(client, services))
    answer = await client.post("/v1/images/edits", json=edit_of(url))
    await drawing

    assert answer.status_code == 200, answer.text


async def test_json_may_be_as_long_as_a_form(
    client: httpx2.AsyncClient, services: Services
) -> None:
    file = file_of(picture(1024, 1024))
    assert len(file) > services.settings.http.max_body_bytes
    body = edit_of(data_url(file), mask={"image_url": data_url(b"none")})
    answer = await client.post("/v1/images/edits", json=body)
    assert answer.json()["error"]["param"] == "mask.image_url"

    body = edit_of(data_url(bytes(services.settings.http.max_upload_bytes * 3 // 4)))
    assert (await client.post("/v1/images/edits", json=body)).status_code == 413
    body = {"prompt": "x" * services.settings.http.max_body_bytes}
    assert (await client.post("/v1/images/generations", json=body)).status_code == 413
