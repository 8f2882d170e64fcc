"""Pictures that were drawn before, where the client allows them."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest

from serve.access.scopes import Scope
from serve.api.services import Services
from serve.jobs.request import JobRequest
from tests.serve.api.drawing import Desk

ASKED = {"prompt": "a red heart", "seed": 7, "num_inference_steps": 5, "cache": "allow"}


async def submit(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json={**ASKED, **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def draw(services: Services) -> int:
    desk = Desk(services)
    claims = await desk.claim()
    for claim in claims:
        await desk.finish(claim)
    return len(claims)


async def test_the_same_request_is_the_same_job(
    client: httpx2.AsyncClient, services: Services
) -> None:
    first = await submit(client, cache=None)
    assert await draw(services) == 1
    usage = (await client.get("/v1/usage")).json()

    again = await submit(client)
    assert (again["id"], again["state"]) == (first["id"], "succeeded")
    hurried = await submit(client, priority=9, deadline_s=60)
    assert hurried["id"] == first["id"], "the picture shows nothing of these"
    called = await client.post("/v1/images/generations", json=ASKED)
    picture = await client.get(f"/v1/images/{first['images'][0]['id']}/original")
    assert base64.b64decode(called.json()["data"][0]["b64_json"]) == picture.content
    assert (await client.get("/v1/usage")).json() == usage
    assert await draw(services) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"cache": None},
        {"seed": 8},
        {"seed": None},
        {"prompt": "a red hearth"},
        {"n": 2},
        {"output_format": "webp"},
        {"withhold_prompt": True},
        {"model": "flow", "num_inference_steps": 5},
    ],
    ids=str,
)
async def test_another_request_is_another_job(
    client: httpx2.AsyncClient, services: Services, fields: dict[str, Any]
) -> None:
    first = await submit(client)
    assert await draw(services) == 1

    other = await submit(client, **fields)
    assert (other["id"] != first["id"], other["state"]) == (True, "queued")


async def test_what_is_not_drawn_yet_or_not_kept_is_no_answer(
    client: httpx2.AsyncClient, services: Services
) -> None:
    first = await submit(client)
    second = await submit(client)
    assert second["id"] != first["id"], "the first is not drawn yet"
    assert await draw(services) == 2
    assert (await submit(client))["id"] == first["id"], "of two the first"
    await client.delete(f"/v1/images/{first['images'][0]['id']}")
    assert (await submit(client))["id"] == second["id"]
    await client.delete(f"/v1/jobs/{second['id']}/images")
    assert (await submit(client))["state"] == "queued"


async def test_another_tenant_s_pictures_are_not_answered(
    client: httpx2.AsyncClient, services: Services
) -> None:
    await submit(client)
    assert await draw(services) == 1
    token, _ = await services.keys.create("second", "test", [Scope.ADMIN])
    client.headers["Authorization"] = f"Bearer {token}"

    assert (await submit(client))["state"] == "queued"


async def test_a_key_that_stands_for_a_job_goes_before(
    client: httpx2.AsyncClient, services: Services
) -> None:
    client.headers["Idempotency-Key"] = "one"
    first = await submit(client, cache=None)
    client.headers["Idempotency-Key"] = "two"
    second = await submit(client, cache=None)
    assert await draw(services) == 2

    assert (await submit(client))["id"] == second["id"]
    client.headers["Idempotency-Key"] = "three"
    assert (await submit(client))["id"] == first["id"]


def test_the_recipe_holds_the_files_of_the_model_and_of_the_loras() -> None:
    request = JobRequest(
        model="m",
        prompt="p",
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=3.0,
        seed=1,
        lora_files={"ink": "0" * 64},
    )
    recipes = {
        request.recipe("/models/a"),
        request.recipe("/models/b"),
        JobRequest.from_params({**request.as_params(), "lora_files": {"ink": "1" * 64}}).recipe(
            "/models/a"
        ),
    }
    assert len(recipes) == 3
    assert JobRequest.from_params(request.as_params()).recipe("/models/a") in recipes
