"""Usage by day and model, what is given back, and the month's quota."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx2
import pytest
from sqlalchemy import text

from serve.api.services import Services
from serve.settings import Settings
from serve.worker.reaper import Reaper
from tests.serve.api.drawing import Desk
from tests.serve.api.limited import EACH, PROMPT, Limit, limit, queries

__all__ = ["limit", "queries"]


async def used(client: httpx2.AsyncClient) -> tuple[int, int, float]:
    """Jobs, pictures, and GPU seconds in prices of one picture."""
    usage = (await client.get("/v1/usage")).json()
    return usage["jobs"], usage["pictures"], round(usage["gpu_seconds"] / EACH, 6)


async def submit(client: httpx2.AsyncClient, n: int, **more: object) -> str:
    answer = await client.post("/v1/jobs", json={**PROMPT, "n": n, **more})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def test_by_day_and_model(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services
) -> None:
    await submit(client, 2)
    await submit(client, 1)
    await submit(client, 1, model="flow", num_inference_steps=4)
    async with services.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO usage SELECT tenant_id, '2026-02-28', 'flow', 7, 9, 100 FROM usage"
                " LIMIT 1"
            )
        )
    today = datetime.now(UTC).date()

    usage = (await client.get("/v1/usage")).json()
    february = await client.get("/v1/usage", params={"since": "2026-02-01", "until": "2026-02-28"})

    assert (usage["jobs"], usage["pictures"]) == (3, 4)
    assert (usage["since"], usage["until"]) == (str(today.replace(day=1)), str(today))
    assert [(row["day"], row["model"], row["jobs"], row["pictures"]) for row in usage["data"]] == [
        (str(today), "flow", 1, 1),
        (str(today), services.settings.model.name, 2, 3),
    ]
    assert usage["data"][1]["gpu_seconds"] == pytest.approx(3 * EACH)
    assert usage["gpu_seconds"] == pytest.approx(sum(row["gpu_seconds"] for row in usage["data"]))
    assert usage["quota"]["gpu_seconds"] is None
    assert usage["quota"]["left"] is None
    assert usage["quota"]["used"] == usage["gpu_seconds"]
    assert (february.json()["jobs"], february.json()["gpu_seconds"]) == (7, 100)
    assert (await stranger.get("/v1/usage")).json()["data"] == []


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2026-02-02", "until": "2026-02-01"},
        {"since": "2020-01-01", "until": "2026-01-01"},
        {"since": "yesterday"},
        {"since": "0", "until": "0"},
        {"day": "2026-02-02"},
    ],
)
async def test_no_period(client: httpx2.AsyncClient, params: dict[str, str]) -> None:
    assert (await client.get("/v1/usage", params=params)).status_code == 422


async def test_what_was_not_begun_is_given_back(
    client: httpx2.AsyncClient, services: Services
) -> None:
    job_id = await submit(client, 3)
    desk = Desk(services)
    begun, finished = await desk.claim(2)
    await desk.finish(finished)
    assert begun.job_id == finished.job_id
    assert await used(client) == (1, 3, 3)

    await client.delete(f"/v1/jobs/{job_id}")
    await client.delete(f"/v1/jobs/{job_id}")

    assert await used(client) == (1, 2, 2)


async def test_what_a_failed_job_did_not_bring_is_given_back(
    client: httpx2.AsyncClient, services: Services
) -> None:
    await submit(client, 4)
    desk = Desk(services)
    failing, _, finished = await desk.claim(3)
    await desk.finish(finished)

    await desk.claims.fail(failing, "The model is on fire.")

    assert await used(client) == (1, 1, 1)


async def test_what_expired_undrawn_is_given_back(
    client: httpx2.AsyncClient, services: Services, settings: Settings
) -> None:
    await submit(client, 2, deadline_s=0.01)
    await asyncio.sleep(0.02)

    await Reaper(services.database, services.bus, settings).reap()

    assert await used(client) == (1, 0, 0)


async def test_the_quota_is_the_months(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, limit: Limit, queries: list[str]
) -> None:
    await limit(gpu_seconds_per_month=4.5 * EACH)
    kept = await submit(client, 3)

    first = await client.post("/v1/jobs", json={**PROMPT, "n": 2})
    queries.clear()
    refused = [await client.post("/v1/jobs", json={**PROMPT, "n": 2}) for _ in range(20)]

    assert queries == []
    for answer in (first, *refused):
        assert (answer.status_code, answer.json()["code"]) == (429, "insufficient_quota")
        assert answer.headers["x-should-retry"] == "false"
    quota = (await client.get("/v1/usage")).json()["quota"]
    assert quota["left"] == pytest.approx(1.5 * EACH)
    left_s = (datetime.fromisoformat(quota["resets_at"]) - datetime.now(UTC)).total_seconds()
    assert int(first.headers["retry-after"]) == pytest.approx(left_s, abs=5)
    assert (await client.post("/v1/jobs", json=PROMPT)).status_code == 202  # cheaper: fits
    assert (await stranger.post("/v1/jobs", json={**PROMPT, "n": 5})).status_code == 202
    openai = await client.post("/v1/images/generations", json={"prompt": "x", "n": 9})
    assert openai.json()["error"]["type"] == "insufficient_quota"
    await client.delete(f"/v1/jobs/{kept}")
    quota = (await client.get("/v1/usage")).json()["quota"]
    assert quota["left"] == pytest.approx(3.5 * EACH)


async def test_many_at_once_are_within_the_quota(
    client: httpx2.AsyncClient, services: Services, limit: Limit
) -> None:
    """Of two models, whose rows nothing else locks together."""
    await limit(gpu_seconds_per_month=5.5 * EACH)
    answers = await asyncio.gather(
        *(
            client.post("/v1/jobs", json={**PROMPT, "model": model})
            for model in (services.settings.model.name, "flow") * 6
        )
    )

    usage = (await client.get("/v1/usage")).json()
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 7
    assert usage["jobs"] == 5
    assert usage["gpu_seconds"] == pytest.approx(5 * EACH)
