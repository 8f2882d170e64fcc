"""A client whose prompt was cut is told so, wherever it looks."""

from __future__ import annotations

import asyncio
import json

import httpx2
import openai
import pytest

from pipelines.diffusion.request import PromptReading, TextReading
from serve.api.services import Services
from tests.serve.api.drawing import Desk
from tests.serve.api.test_generations import PATH, first_job

CUT = PromptReading(TextReading(tokens=23, read=14), TextReading(tokens=20, read=14))
WHOLE = PromptReading(TextReading(tokens=3, read=3), TextReading(tokens=0, read=0))


async def draw(client: httpx2.AsyncClient, services: Services, reading: PromptReading) -> None:
    await first_job(client)
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim, reading)


async def test_a_generation_tells_what_was_cut_and_counts_what_was_read(
    client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(draw(client, services, CUT))
    named = {"Idempotency-Key": "twice"}
    told = (await client.post(PATH, json={"prompt": "a b c", "n": 2}, headers=named)).json()
    await drawing

    assert [warning["code"] for warning in told["warnings"]] == ["prompt_truncated"] * 2
    assert [warning["param"] for warning in told["warnings"]] == ["prompt", "negative_prompt"]
    assert "the first 14 of 23 tokens" in told["warnings"][0]["message"]
    assert told["usage"]["input_tokens_details"]["text_tokens"] == 28
    assert told["usage"]["input_tokens"] == 28

    again = (await client.post(PATH, json={"prompt": "a b c", "n": 2}, headers=named)).json()
    assert again["warnings"] == told["warnings"]
    job_id = (await client.get("/v1/jobs")).json()["data"][0]["id"]
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert job["warnings"] == told["warnings"]
    events = (await client.get(f"/v1/jobs/{job_id}/events")).text
    data = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    pictures = [event["data"] for event in data if event["type"] == "image.succeeded"]
    assert [picture["warnings"] for picture in pictures] == [told["warnings"]] * 2


async def test_whoever_was_read_whole_is_not_warned(
    client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(draw(client, services, WHOLE))
    told = (await client.post(PATH, json={"prompt": "heart, heart"})).json()
    await drawing

    assert "warnings" not in told
    assert told["usage"]["input_tokens_details"]["text_tokens"] == 3
    job = (await client.get("/v1/jobs")).json()["data"][0]
    assert job["warnings"] == []
    assert '"warnings"' not in (await client.get(f"/v1/jobs/{job['id']}/events")).text


async def test_words_are_counted_where_the_tokens_are_not_known(
    client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(draw(client, services, PromptReading()))
    told = (await client.post(PATH, json={"prompt": "a red heart"})).json()
    await drawing

    assert told["usage"]["input_tokens_details"]["text_tokens"] == 3
    assert "warnings" not in told


@pytest.mark.parametrize(("reading", "tokens"), [(CUT, 28), (WHOLE, 3)])
async def test_a_stream_tells_it_with_each_picture(
    client: httpx2.AsyncClient,
    services: Services,
    server: str,
    key: str,
    reading: PromptReading,
    tokens: int,
) -> None:
    drawing = asyncio.create_task(draw(client, services, reading))
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as sdk:
        stream = await sdk.images.generate(prompt="a b c", n=2, stream=True)
        events = [event async for event in stream]
    await drawing

    assert len(events) == 2
    for event in events:
        assert event.type == "image_generation.completed"
        assert event.usage.input_tokens == tokens
        extra = event.model_extra or {}
        assert ("warnings" in extra) is (reading is CUT)
