"""A process that is to stop answers the calls that it has, and takes no more."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest
from fastapi import FastAPI

from serve.api.services import Services
from tests.serve.api.drawing import Desk
from tests.serve.api.test_generations import HEART, PATH, drawn, first_job

LONG_S = 60.0


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http.drain.LAST_WORDS_S", 10.0)


async def test_an_idle_process_stops_at_once(services: Services) -> None:
    async with asyncio.timeout(5):
        await services.drain.finish(LONG_S)
    assert not services.drain.over.is_set()


async def test_a_call_that_waits_gets_its_picture_and_then_the_process_stops(
    client: httpx2.AsyncClient, services: Services
) -> None:
    asking = asyncio.create_task(client.post(PATH, json=HEART))
    await first_job(client)
    stopping = asyncio.create_task(services.drain.finish(LONG_S))
    await asyncio.sleep(0.2)
    assert not stopping.done()
    await drawn(client, services)
    async with asyncio.timeout(10):
        await stopping
    assert (await asking).status_code == 200
    assert not services.drain.over.is_set()


async def test_nothing_new_is_begun_and_reading_goes_on(
    client: httpx2.AsyncClient, services: Services
) -> None:
    job_id = (await client.post("/v1/jobs", json=HEART)).json()["id"]
    await services.drain.finish(LONG_S)
    for path in ("/v1/jobs", PATH):
        refused = await client.post(path, json=HEART)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.headers["connection"] == "close"
        body = refused.json()
        assert body.get("error", body)["code"] == "stopping"
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 503
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["state"] == "queued"
    assert len((await client.get("/v1/jobs")).json()["data"]) == 1


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("headers", "state", "cure"),
    [
        ({}, "cancelled", "has cancelled them; send the request again."),
        ({"Idempotency-Key": "a"}, "queued", "with the same Idempotency-Key."),
    ],
)
async def test_who_waits_too_long_is_told_to_ask_again(
    client: httpx2.AsyncClient, services: Services, headers: dict[str, str], state: str, cure: str
) -> None:
    """Without a key nothing is left that would be drawn beside the next request's pictures."""
    asking = asyncio.create_task(client.post(PATH, json=HEART, headers=headers))
    await first_job(client)
    async with asyncio.timeout(10):
        await services.drain.finish(0.1)
    answer = await asking
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "stopping"
    assert answer.json()["error"]["message"].endswith(cure)
    assert (await first_job(client))["state"] == state


@pytest.mark.usefixtures("hurried")
async def test_a_stream_of_pictures_is_a_call_as_well(
    server: str, client: httpx2.AsyncClient, services: Services, key: str
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key) as caller:
        stream = await caller.images.generate(prompt="a red heart", n=2, stream=True)
        await first_job(client)
        stopping = asyncio.create_task(services.drain.finish(2.0))
        desk = Desk(services)
        first, _ = await desk.claim()
        await desk.finish(first)
        assert (await anext(stream)).type == "image_generation.completed"
        with pytest.raises(openai.APIError, match="send the request again") as stopped:
            await anext(stream)
        assert stopped.value.code == "stopping"
        async with asyncio.timeout(10):
            await stopping
    assert (await first_job(client))["state"] == "cancelled"


async def test_below_a_path_it_is_told_in_the_shape_of_the_endpoint(
    app: FastAPI, services: Services
) -> None:
    await services.drain.finish(LONG_S)
    transport = httpx2.ASGITransport(app=app, root_path="/art")
    async with httpx2.AsyncClient(transport=transport, base_url="http://sfumato") as client:
        answer = await client.post(f"/art{PATH}", json=HEART)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
