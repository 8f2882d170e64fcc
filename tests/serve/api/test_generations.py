"""OpenAI's image generation, asked by OpenAI's own client among others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import io
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from fastapi import FastAPI
from PIL import Image

from serve.api.app import create_app
from serve.api.services import Services
from serve.settings import JobSettings, Settings
from tests.serve.api.drawing import Desk

PATH = "/v1/images/generations"
HEART = {"prompt": "a red heart"}


async def first_job(client: httpx2.AsyncClient) -> dict[str, object]:
    """The newest job, once there is one."""
    async with asyncio.timeout(10):
        while True:
            jobs = (await client.get("/v1/jobs")).json()["data"]
            if jobs:
                job: dict[str, object] = jobs[0]
                return job
            await asyncio.sleep(0.02)


async def drawn(client: httpx2.AsyncClient, services: Services) -> None:
    """Finish every picture of the first job."""
    desk = Desk(services)
    await first_job(client)
    for claim in await desk.claim():
        await desk.finish(claim)


@pytest.fixture
async def openai_client(server: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client as anyone would make it, on a real server."""
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as client:
        yield client


async def test_pictures_come_back(client: httpx2.AsyncClient, services: Services) -> None:
    asked = {**HEART, "n": 2, "seed": 5, "size": "128x64", "output_format": "webp"}
    drawing = asyncio.create_task(drawn(client, services))
    answer = await client.post(PATH, json=asked)
    await drawing

    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {
        *("created", "data", "background", "output_format", "quality", "size", "usage")
    }
    assert (told["size"], told["output_format"], told["quality"]) == ("128x64", "webp", "medium")
    assert told["usage"]["total_tokens"] == 3 + 2 * 8 * 4
    assert [set(picture) for picture in told["data"]] == [{"b64_json"}] * 2
    for picture in told["data"]:
        file = Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))
        assert (file.format, file.size) == ("WEBP", (128, 64))


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({}, 20),
        ({"quality": "auto"}, 20),
        ({"quality": "low"}, 10),
        ({"quality": "hd"}, 30),
        ({"quality": "max"}, 60),
        ({"quality": "low", "num_inference_steps": 7}, 7),
    ],
)
async def test_quality_sets_the_steps(
    client: httpx2.AsyncClient, asked: dict[str, object], steps: int
) -> None:
    asking = asyncio.create_task(client.post(PATH, json={**HEART, **asked}))
    job = await first_job(client)
    await client.delete(f"/v1/jobs/{job['id']}")
    await asking

    assert job["params"]["num_inference_steps"] == steps  # type: ignore[index]


async def test_job_cancelled_elsewhere(client: httpx2.AsyncClient) -> None:
    asking = asyncio.create_task(client.post(PATH, json=HEART))
    job = await first_job(client)
    await client.delete(f"/v1/jobs/{job['id']}")
    answer = await asking

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "job_cancelled"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-job-id"] == job["id"]


async def test_failed_job_tells_why(client: httpx2.AsyncClient, services: Services) -> None:
    desk = Desk(services)
    asking = asyncio.create_task(client.post(PATH, json=HEART))
    await first_job(client)
    for claim in await desk.claim():
        await desk.claims.fail(claim, "the device ran out of memory")
    answer = await asking

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "generation_failed"
    assert "the device ran out of memory" in answer.json()["error"]["message"]


async def test_wait_is_bounded_and_tells_the_job(
    client: httpx2.AsyncClient, services: Services, settings: Settings, key: str
) -> None:
    impatient = settings.model_copy(update={"jobs": JobSettings(wait_timeout_s=0.2)})
    hurried = create_app(dataclasses.replace(services, settings=impatient))
    transport = httpx2.ASGITransport(app=hurried)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as caller:
        answer = await caller.post(PATH, json=HEART, headers={"X-API-Key": key})

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "wait_timeout"
    job = (await client.get(f"/v1/jobs/{answer.headers['x-job-id']}")).json()
    assert job["state"] == "queued"


@pytest.mark.parametrize(
    ("headers", "state"), [({}, "cancelled"), ({"Idempotency-Key": "a"}, "queued")]
)
async def test_who_leaves_takes_the_job_along_unless_they_will_return(
    app: FastAPI, client: httpx2.AsyncClient, key: str, headers: dict[str, str], state: str
) -> None:
    left = asyncio.Event()
    body = b'{"prompt": "a red heart"}'
    arrived = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, object]:
        if arrived:
            return arrived.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: object) -> None:
        pass

    named = {"x-api-key": key, "content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
    }
    asking = asyncio.create_task(app(scope, receive, send))
    job = await first_job(client)
    left.set()
    await asking

    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == state


async def test_cancelled_handler_cancels_the_job(client: httpx2.AsyncClient) -> None:
    """Ray Serve cancels the handler when the client leaves."""
    asking = asyncio.create_task(client.post(PATH, json=HEART))
    job = await first_job(client)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "cancelled"


async def test_cancelled_while_it_submits_the_job_is_cancelled_too(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py swallows a cancellation that arrives while it writes, under Python 3.11."""
    announcing = asyncio.Event()

    async def swallows(*_events: object) -> None:
        announcing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)

    monkeypatch.setattr(services.bus, "publish", swallows)
    asking = asyncio.create_task(client.post(PATH, json=HEART))
    await announcing.wait()
    asking.cancel()
    done, _ = await asyncio.wait({asking}, timeout=10)

    assert done
    assert asking.cancelled()
    assert (await first_job(client))["state"] == "cancelled"


async def test_openai_client_gets_its_pictures(
    openai_client: openai.AsyncOpenAI, client: httpx2.AsyncClient, services: Services
) -> None:
    drawing = asyncio.create_task(drawn(client, services))
    answer = await openai_client.images.generate(
        model="sfumato-embedded",
        prompt="red heart",
        n=1,
        quality="low",
        extra_body={"seed": 3, "num_inference_steps": 4, "scheduler": "ddim"},
    )
    await drawing

    assert answer.data
    assert answer.data[0].b64_json
    assert answer.usage
    job = await first_job(client)
    assert job["params"]["scheduler"] == "ddim"  # type: ignore[index]


async def test_openai_client_understands_refusals(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await openai_client.images.generate(model="dall-e-2", prompt="red heart")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="multiples of 8"):
        await openai_client.images.generate(
            model="sfumato-embedded", prompt="red heart", size="63x64"
        )
    with pytest.raises(openai.AuthenticationError):
        await openai_client.with_options(api_key="x" * 30).models.list()


async def test_openai_client_lists_models(openai_client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in openai_client.models.list()] == ["sfumato-embedded", "flow"]
    assert (await openai_client.models.retrieve("sfumato-embedded")).object == "model"
