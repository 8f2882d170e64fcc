"""What a tenant may ask for: refused early, told on every answer, given back where nothing came."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from serve.api.services import Services
from serve.jobs.admission import QueueView
from serve.settings import DEFAULT_POOL
from tests.serve.api.conftest import count_rows
from tests.serve.api.limited import EACH, PROMPT, Limit, limit, queries

__all__ = ["limit", "queries"]


async def test_without_limits_nothing_is_told(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=PROMPT)

    assert answer.status_code == 202
    assert not any(name.startswith("ratelimit") for name in answer.headers)


async def test_requests_that_change_something(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(requests_per_minute=3)

    answers = [await client.post("/v1/jobs", json=PROMPT) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [202] * 3 + [429] * 2
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=60'
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == [
        *("r=2", "r=1", "r=0", "r=0", "r=0")
    ]
    assert (await client.get("/v1/jobs")).status_code == 200  # to look is free
    assert (await client.post("/v1/jobs", json={})).status_code == 429  # and to err is not


async def test_gpu_seconds(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, limit: Limit, queries: list[str]
) -> None:
    await limit(gpu_seconds_per_minute=6 * EACH, gpu_seconds_burst=4.5 * EACH)

    first = await client.post("/v1/jobs", json={**PROMPT, "n": 3})
    dear = await client.post("/v1/jobs", json={**PROMPT, "n": 3})
    cheap = await client.post("/v1/jobs", json=PROMPT)
    queries.clear()
    refusals = await asyncio.gather(
        *(client.post("/v1/jobs", json={**PROMPT, "n": 2}) for _ in range(40))
    )

    assert (first.status_code, dear.status_code, cheap.status_code) == (202, 429, 202)
    assert {answer.status_code for answer in refusals} == {429}
    assert queries == []
    assert dear.json()["code"] == "rate_limit_exceeded"
    assert int(dear.headers["retry-after"]) == pytest.approx(15, abs=1)  # 1.5 more, at 6 a minute
    policy = first.headers["ratelimit-policy"]
    assert policy == f'"gpu-seconds";q={int(4.5 * EACH)};w=45;qu="gpu-seconds"'
    assert (await stranger.post("/v1/jobs", json={**PROMPT, "n": 4})).status_code == 202


async def test_openai_clients_are_told_in_their_words(
    client: httpx2.AsyncClient, limit: Limit
) -> None:
    await limit(gpu_seconds_per_minute=EACH)
    await client.post("/v1/jobs", json=PROMPT)

    refused = await client.post("/v1/images/generations", json={"prompt": "a red heart"})

    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


async def test_a_repetition_is_neither_refused_nor_charged(
    client: httpx2.AsyncClient, services: Services, limit: Limit
) -> None:
    await limit(gpu_seconds_per_minute=3 * EACH, gpu_seconds_per_month=3 * EACH)
    key = {"Idempotency-Key": "k"}
    first = await client.post("/v1/jobs", json={**PROMPT, "n": 2}, headers=key)

    while_refused = await client.post("/v1/jobs", json={**PROMPT, "n": 2}, headers=key)
    await limit(gpu_seconds_per_minute=8 * EACH)
    while_not = [
        await client.post("/v1/jobs", json={**PROMPT, "n": 2}, headers=key) for _ in range(9)
    ]
    other = await client.post("/v1/jobs", json=PROMPT)
    too_much = await client.post("/v1/jobs", json=PROMPT)

    assert {answer.json()["id"] for answer in (first, while_refused, *while_not)} == {
        first.json()["id"]
    }
    assert {answer.status_code for answer in (while_refused, *while_not)} == {202}
    assert (other.status_code, too_much.json()["code"]) == (202, "insufficient_quota")
    assert await count_rows(services.database, "jobs") == 2


async def test_what_the_queue_refuses_costs_nothing(
    client: httpx2.AsyncClient, services: Services, limit: Limit
) -> None:
    await limit(gpu_seconds_per_minute=2 * EACH)
    services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
        services.database, list(services.settings.served), 1e-9
    )
    await client.post("/v1/jobs", json=PROMPT)
    for _ in range(5):
        overloaded = await client.post("/v1/jobs", json=PROMPT)
        assert overloaded.json()["code"] == "overloaded"

    services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
        services.database, list(services.settings.served), 600
    )

    assert (await client.post("/v1/jobs", json=PROMPT)).status_code == 202


async def test_what_the_rate_refuses_is_no_backlog(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services, limit: Limit
) -> None:
    await limit(gpu_seconds_per_minute=EACH)
    services.jobs.admission.queues[DEFAULT_POOL] = QueueView(
        services.database, list(services.settings.served), 3 * EACH
    )
    for _ in range(9):
        await client.post("/v1/jobs", json=PROMPT)

    assert (await stranger.post("/v1/jobs", json=PROMPT)).status_code == 202
