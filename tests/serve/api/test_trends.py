"""What is asked for and liked: noted, counted once, and told to nobody it does not concern."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from serve.access.scopes import Scope
from serve.api.services import Services
from serve.settings import Settings, TrendSettings
from serve.trends.counting import TermCounter
from tests.serve.api.drawing import Desk


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"trends": TrendSettings(k=2)})


@pytest.fixture
def counter(services: Services, settings: Settings) -> TermCounter:
    return TermCounter(services.database, settings.trends, services.answers)


async def ask(client: httpx2.AsyncClient, prompt: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json={"prompt": prompt, **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def trends(client: httpx2.AsyncClient, **query: str | int) -> list[dict[str, Any]]:
    answer = await client.get("/v1/trends", params=query)
    assert answer.status_code == 200, answer.text
    told: list[dict[str, Any]] = answer.json()["data"]
    return told


async def age(services: Services, hours: float) -> None:
    """What was counted just now was counted so much earlier."""
    statement = (
        "UPDATE term_counts SET since = since - CAST(:by AS interval)"
        " WHERE since > now() - interval '30 min'"
    )
    async with services.database.transaction() as session:
        await session.execute(text(statement), {"by": timedelta(hours=hours)})


async def test_what_is_asked_liked_and_saved_counts_once(
    client: httpx2.AsyncClient, services: Services, counter: TermCounter
) -> None:
    job = await ask(client, "a red heart")
    await ask(client, "a blue heart")
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    picture = f"/v1/images/{job['images'][0]['id']}"
    for favourite in (True, True, False):
        await client.patch(picture, json={"favourite": favourite})
    await client.get(f"{picture}/original")
    await client.get(f"{picture}/original", params={"download": True})

    while await counter.count():
        pass
    await asyncio.gather(*(counter.count() for _ in range(3)))
    told = {each["term"]: each for each in await trends(client)}
    assert set(told) == {"red", "blue", "heart"}
    counts = {name: told["heart"][name] for name in ("asked", "favoured", "downloaded")}
    assert counts == {"asked": 2, "favoured": 1, "downloaded": 1}
    assert told["blue"]["favoured"] == 0
    assert told["heart"]["score"] == pytest.approx(2 + 3 + 2, rel=0.02)
    assert told["heart"]["rise"] == 7
    assert [each["term"] for each in await trends(client, kind="colour")] == ["red", "blue"]
    assert [each["term"] for each in await trends(client, order="top", limit=1)] == ["heart"]


async def test_what_rises_comes_before_what_is_asked_for_always(
    client: httpx2.AsyncClient, services: Services, counter: TermCounter
) -> None:
    for hours in (4, 3, 2, 1):
        for _ in range(5):
            await ask(client, "a cat")
        await counter.count()
        await age(services, hours)
    for _ in range(5):
        await ask(client, "a cat")
    for _ in range(4):
        await ask(client, "a fox")
    await counter.count()

    rising = await trends(client, window="1h")
    assert [each["term"] for each in rising] == ["fox", "cat"]
    assert (rising[0]["rise"], rising[1]["rise"]) == (4, 0)
    top = await trends(client, window="1h", order="top")
    assert [each["term"] for each in top] == ["cat", "fox"]
    assert (await trends(client, window="7d"))[0]["term"] == "cat"


async def test_of_others_only_what_several_ask_for(
    client: httpx2.AsyncClient, services: Services, counter: TermCounter
) -> None:
    await ask(client, "my secret project, a heart")
    await ask(client, "withheld heart", withhold_prompt=True)
    token, _ = await services.keys.create("second", "test", [Scope.ADMIN])
    mine = client.headers["Authorization"]
    client.headers["Authorization"] = f"Bearer {token}"
    await ask(client, "a heart, a star")
    await counter.count()

    assert {each["term"] for each in await trends(client)} == {"heart", "star"}
    [shared] = await trends(client, scope="all")
    assert (shared["term"], shared["asked"]) == ("heart", 2)
    client.headers["Authorization"] = mine
    assert {each["term"] for each in await trends(client)} == {"secret", "project", "heart"}


async def test_counters_at_once_count_each_signal_once(
    client: httpx2.AsyncClient, services: Services, counter: TermCounter
) -> None:
    for _ in range(40):
        await ask(client, "a red heart in a blue fog")

    await asyncio.gather(*(counter.count() for _ in range(4)))
    told = {each["term"]: each["asked"] for each in await trends(client)}
    assert told == {"red": 40, "heart": 40, "blue": 40, "fog": 40}


async def test_old_counts_go_and_so_do_those_of_a_tenant_that_goes(
    client: httpx2.AsyncClient, services: Services, counter: TermCounter
) -> None:
    await ask(client, "a red heart")
    await counter.count()
    await counter.forget()
    assert len(await trends(client)) == 2
    await age(services, 91 * 24)
    await counter.forget()
    async with services.database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM term_counts")) == 0


@pytest.mark.parametrize("query", [{"window": "2h"}, {"limit": 0}, {"of": "all"}, {"kind": "x"}])
async def test_what_cannot_be_asked_is_refused(
    client: httpx2.AsyncClient, query: dict[str, str]
) -> None:
    answer = await client.get("/v1/trends", params=query)
    assert answer.status_code == 422
