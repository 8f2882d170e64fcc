"""Jobs over HTTP: asked for, looked at, listed, cancelled; each tenant's own."""

from __future__ import annotations

import httpx2

from serve.api.services import Services
from serve.jobs.admission import QueueView
from serve.settings import DEFAULT_POOL
from tests.serve.api.conftest import count_rows

ASKED = {"prompt": "a red heart", "seed": 7, "n": 2}


async def submit(client: httpx2.AsyncClient, **changes: object) -> dict[str, object]:
    answer = await client.post("/v1/jobs", json={**ASKED, **changes})
    assert answer.status_code == 202, answer.text
    job: dict[str, object] = answer.json()
    return job


async def test_submitted_job_is_told_where_it_is(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=ASKED)

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["prompt"] == "a red heart"
    assert job["last_seq"] == 1
    assert [(image["index"], image["seed"], image["state"]) for image in job["images"]] == [
        (0, 7, "queued"),
        (1, 8, "queued"),
    ]


async def test_defaults_are_filled_in(client: httpx2.AsyncClient) -> None:
    job = await submit(client)

    assert job["model"] == "sfumato-embedded"
    assert job["params"] == {
        "model": "sfumato-embedded",
        "prompt": "a red heart",
        "negative_prompt": "",
        "n": 2,
        "width": 64,
        "height": 64,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
        "seed": 7,
        "scheduler": "default",
        "output_format": "png",
        "output_compression": None,
        "priority": 0,
        "partial_images": 0,
        "deadline_s": None,
    }


async def test_null_means_left_out(client: httpx2.AsyncClient) -> None:
    job = await submit(client, n=None, model=None, size=None, guidance_scale=None)

    assert job["n"] == 1


async def test_size_by_either_name(client: httpx2.AsyncClient) -> None:
    by_size = await submit(client, size="128x96")
    by_width = await submit(client, width=128, height=96)

    for job in (by_size, by_width):
        assert (job["params"]["width"], job["params"]["height"]) == (128, 96)  # type: ignore[index]


async def test_random_seeds_differ(client: httpx2.AsyncClient) -> None:
    first = await submit(client, seed=None)
    second = await submit(client, seed=None)

    assert first["params"]["seed"] != second["params"]["seed"]  # type: ignore[index]


async def test_looked_at(client: httpx2.AsyncClient) -> None:
    job = await submit(client)

    answer = await client.get(f"/v1/jobs/{job['id']}")

    assert answer.status_code == 200
    assert answer.json() == job


async def test_listed_newest_first_page_by_page(client: httpx2.AsyncClient) -> None:
    ids = [(await submit(client))["id"] for _ in range(5)]

    first = (await client.get("/v1/jobs", params={"limit": 2})).json()
    second = (await client.get("/v1/jobs", params={"limit": 2, "after": first["next"]})).json()
    third = (await client.get("/v1/jobs", params={"limit": 2, "after": second["next"]})).json()

    assert [job["id"] for page in (first, second, third) for job in page["data"]] == ids[::-1]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert third["next"] is None


async def test_cancelled_once_and_again(client: httpx2.AsyncClient) -> None:
    job = await submit(client)

    for _ in range(2):
        answer = await client.delete(f"/v1/jobs/{job['id']}")
        assert answer.status_code == 200
        assert answer.json()["state"] == "cancelled"
    assert {image["state"] for image in answer.json()["images"]} == {"cancelled"}


async def test_same_key_and_body_is_the_same_job(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"prompt": "a red heart"}  # without a seed: it must not be drawn anew

    first = await client.post("/v1/jobs", json=body, headers=headers)
    second = await client.post("/v1/jobs", json=body, headers=headers)

    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()


async def test_same_key_with_another_body_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    await client.post("/v1/jobs", json={"prompt": "a red heart"}, headers=headers)

    answer = await client.post("/v1/jobs", json={"prompt": "a blue star"}, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_conflict"


async def test_keys_of_tenants_do_not_meet(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "once"}

    mine = await client.post("/v1/jobs", json={"prompt": "a red heart"}, headers=headers)
    theirs = await stranger.post("/v1/jobs", json={"prompt": "a blue star"}, headers=headers)

    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]


async def test_another_tenant_sees_nothing(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    job = await submit(client)
    image = job["images"][0]["id"]  # type: ignore[index]

    answers = [
        await stranger.get(f"/v1/jobs/{job['id']}"),
        await stranger.delete(f"/v1/jobs/{job['id']}"),
        await stranger.get(f"/v1/images/{image}"),
        await stranger.get(f"/v1/images/{image}/original"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert (await stranger.get("/v1/jobs")).json()["data"] == []
    assert (await client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "queued"


async def test_more_than_can_be_drawn_in_time_is_refused_with_when_to_come_again(
    client: httpx2.AsyncClient, services: Services
) -> None:
    services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
        services.database, list(services.settings.served), 1e-6
    )
    body = {"prompt": "a red heart"}
    assert (await client.post("/v1/jobs", json=body)).status_code == 202
    refused = await client.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert int(refused.headers["Retry-After"]) >= 1
    openai = await client.post("/v1/images/generations", json=body)
    assert (openai.status_code, openai.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(openai.headers["Retry-After"]) >= 1
    assert await count_rows(services.database, "jobs") == 1
