"""Streamed generations, read by OpenAI's own client among others."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator

import httpx2
import numpy as np
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from pipelines.diffusion.request import Progress
from serve.api.services import Services
from serve.worker.progress import ProgressBoard
from serve.worker.queue import Claim
from tests.serve.api.drawing import Desk
from tests.serve.api.test_generations import HEART, PATH, first_job

STEPS = 20


@pytest.fixture
async def openai_client(server: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as client:
        yield client


async def claimed(client: httpx2.AsyncClient, desk: Desk) -> list[Claim]:
    await first_job(client)
    return await desk.claim()


async def glimpses(services: Services, claim: Claim, steps: int = STEPS - 1) -> None:
    """A picture's way to its last step, a preview each, faster than the board tells."""
    board = ProgressBoard(services.bus)
    telling = asyncio.create_task(board.run())
    for step in range(1, steps + 1):
        shade = np.full((16, 32, 3), 10 * step, np.uint8)
        board.put(claim, Progress("picture", step, STEPS, shade))
        await asyncio.sleep(0.06)
    await asyncio.sleep(0.15)
    board.close()
    await telling


def picture(event: ImageGenPartialImageEvent | ImageGenCompletedEvent) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(event.b64_json)))


@pytest.mark.parametrize("asked", [1, 3])
async def test_partial_pictures_come_before_the_picture(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services, asked: int
) -> None:
    async def draw() -> None:
        desk = Desk(services)
        (claim,) = await claimed(client, desk)
        await glimpses(services, claim)
        await desk.finish(claim)

    drawing = asyncio.create_task(draw())
    stream = await openai_client.images.generate(
        prompt="a red heart", size="128x64", stream=True, partial_images=asked, output_format="webp"
    )
    *partial, last = [event async for event in stream]
    await drawing

    assert [event.type for event in partial] == ["image_generation.partial_image"] * asked
    assert [event.partial_image_index for event in partial] == list(range(asked))  # type: ignore[union-attr]
    shades = [np.asarray(picture(event).convert("L")).mean() for event in partial]
    assert shades == sorted(shades)
    assert shades[-1] > 40 * asked  # spread over the way, not all from its beginning
    assert isinstance(last, ImageGenCompletedEvent)
    assert last.usage.output_tokens == 8 * 4
    for event in (*partial, last):
        assert (picture(event).size, picture(event).format) == ((128, 64), "WEBP")
        assert (event.size, event.quality, event.output_format) == ("128x64", "medium", "webp")
    assert np.asarray(picture(last).convert("L")).mean() == pytest.approx(200, abs=2)


async def test_each_of_several_pictures_comes_once(
    client: httpx2.AsyncClient, openai_client: openai.AsyncOpenAI, services: Services
) -> None:
    async def draw() -> None:
        desk = Desk(services)
        for claim in reversed(await claimed(client, desk)):
            await desk.finish(claim)

    drawing = asyncio.create_task(draw())
    stream = await openai_client.images.generate(prompt="a red heart", n=3, stream=True)
    events = [event async for event in stream]
    await drawing

    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert [event.model_extra and event.model_extra["image_index"] for event in events] == [2, 1, 0]


async def test_a_job_that_fails_ends_the_stream_with_its_reason(
    client: httpx2.AsyncClient, openai_client: openai.AsyncOpenAI, services: Services
) -> None:
    async def draw() -> None:
        desk = Desk(services)
        first, second = await claimed(client, desk)
        await desk.finish(first)
        await desk.claims.fail(second, "The picture could not be stored: the disk is full.")

    drawing = asyncio.create_task(draw())
    stream = await openai_client.images.generate(prompt="a red heart", n=2, stream=True)
    assert (await anext(stream)).type == "image_generation.completed"
    with pytest.raises(openai.APIError, match="the disk is full") as failed:
        await anext(stream)
    await drawing

    assert failed.value.code == "generation_failed"


@pytest.mark.parametrize(
    ("headers", "state"), [({}, "cancelled"), ({"Idempotency-Key": "a"}, "queued")]
)
async def test_who_leaves_a_stream_takes_the_job_along_unless_they_will_return(
    server: str, client: httpx2.AsyncClient, key: str, headers: dict[str, str], state: str
) -> None:
    body = {**HEART, "stream": True}
    named = {"Authorization": f"Bearer {key}", **headers}
    async with (
        httpx2.AsyncClient(base_url=server, headers=named) as reader,
        reader.stream("POST", PATH, json=body) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        await first_job(client)
    async with asyncio.timeout(10):
        while (await first_job(client))["state"] != state:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert (await first_job(client))["state"] == state


async def test_a_repeated_call_streams_what_was_drawn_before(
    client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    named = {"Idempotency-Key": "again"}
    drawing = asyncio.create_task(claimed(client, desk))
    first = asyncio.create_task(client.post(PATH, json={**HEART, "stream": True}, headers=named))
    for claim in await drawing:
        await desk.finish(claim)
    again = await client.post(PATH, json={**HEART, "stream": True}, headers=named)

    assert again.status_code == 200
    assert again.text == (await first).text
    assert again.text.count("event: image_generation.completed") == 1


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"partial_images": 2}, "partial_images"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"stream": True, "response_format": "url"}, "response_format"),
    ],
)
async def test_what_no_stream_can_be_is_refused_before_it(
    client: httpx2.AsyncClient, extra: dict[str, object], param: str
) -> None:
    answer = await client.post(PATH, json={**HEART, **extra})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert (await client.get("/v1/jobs")).json()["data"] == []
