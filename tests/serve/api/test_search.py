"""The gallery's search: words, model, seed, time, favourites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from serve.api.services import Services
from tests.serve.api.drawing import Desk

PROMPTS = {
    "heart": "A red heart, on snow",
    "star": "a yellow star over the red sea",
    "sun": "Die Sonne über dem Meer",
    "cat": "кошка и красное сердце",
    "flow": "a red heart of stone",
}


@pytest.fixture
async def drawn(client: httpx2.AsyncClient, services: Services) -> dict[str, str]:
    """Ids by name, of pictures that were asked for an hour apart, the last one just now."""
    desk = Desk(services)
    ids: dict[str, str] = {}
    for seed, (name, prompt) in enumerate(PROMPTS.items()):
        body: dict[str, Any] = {"prompt": prompt, "seed": seed % 4}
        if name == "flow":
            body |= {"model": "flow", "size": "64x64"}
        ids[name] = (await client.post("/v1/jobs", json=body)).json()["images"][0]["id"]
    for claim in await desk.claim():
        await desk.finish(claim)
    await client.post("/v1/jobs", json={"prompt": "a red heart that is not drawn yet"})
    return ids


async def found(client: httpx2.AsyncClient, ids: dict[str, str], **query: Any) -> list[str]:
    answer = await client.get("/v1/images", params=query)
    assert answer.status_code == 200, answer.text
    names = {image_id: name for name, image_id in ids.items()}
    return [names[image["id"]] for image in answer.json()["data"]]


async def test_found(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, drawn: dict[str, str]
) -> None:
    for query, names in (
        ({}, ["flow", "cat", "sun", "star", "heart"]),
        ({"q": "RED heart"}, ["flow", "heart"]),
        ({"q": "  "}, ["flow", "cat", "sun", "star", "heart"]),
        ({"q": '"red sea"'}, ["star"]),
        ({"q": "red -heart"}, ["star"]),
        ({"q": "sonne or star"}, ["sun", "star"]),
        ({"q": "СЕРДЦЕ"}, ["cat"]),
        ({"q": "über"}, ["sun"]),
        ({"q": "hear"}, []),
        ({"q": "the"}, ["star"]),  # no language, so no stop words
        ({"q": "!!! ' & | ( <-> :*"}, []),
        ({"q": "x'; DROP TABLE images; --"}, []),
        ({"model": "flow"}, ["flow"]),
        ({"model": "flow", "q": "star"}, []),
        ({"seed": 0}, ["flow", "heart"]),
        ({"seed": 0, "q": "snow"}, ["heart"]),
        ({"seed": 2**62}, []),
        ({"favourite": "true"}, []),
    ):
        assert await found(client, drawn, **query) == names, query
        assert await found(stranger, drawn, **query) == [], query

    first = (await client.get("/v1/images", params={"q": "red", "limit": 2})).json()
    rest = (await client.get("/v1/images", params={"q": "red", "after": first["next"]})).json()
    assert [image["prompt"] for image in rest["data"]] == [PROMPTS["heart"]]


async def test_by_time(
    client: httpx2.AsyncClient, services: Services, drawn: dict[str, str]
) -> None:
    """Ids follow the time, as those that Postgres makes do."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    async with services.database.transaction() as session:
        await session.execute(text("ALTER TABLE variants DROP CONSTRAINT variants_image_id_fkey"))
        for hours, name in enumerate(("heart", "star", "sun")):
            moment = begin + timedelta(hours=hours)
            shifted = text("""
                UPDATE images SET created_at = :at, id = uuidv7(:at - clock_timestamp())
                WHERE id = :id RETURNING id""")
            row = await session.execute(shifted, {"at": moment, "id": drawn[name]})
            drawn[name] = str(row.scalar_one())

    for query, names in (
        ({"created_before": begin}, []),
        ({"created_before": begin + timedelta(seconds=1)}, ["heart"]),
        ({"created_after": begin, "created_before": begin + timedelta(hours=1)}, ["heart"]),
        ({"created_after": begin + timedelta(hours=1, seconds=1)}, ["flow", "cat", "sun"]),
        ({"created_after": begin + timedelta(days=9)}, ["flow", "cat"]),
        ({"created_after": datetime.now(UTC) + timedelta(days=1)}, []),
    ):
        told = {name: moment.isoformat() for name, moment in query.items()}
        assert await found(client, drawn, **told) == names, query
    elsewhere = {"created_before": "2026-01-01T02:00:00.5+02:00"}
    assert await found(client, drawn, **elsewhere) == ["heart"]


async def test_favourites(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, drawn: dict[str, str]
) -> None:
    url = f"/v1/images/{drawn['sun']}"
    for _ in range(2):
        answer = await client.patch(url, json={"favourite": True})
        assert (answer.status_code, answer.json()["favourite"]) == (200, True)
    assert await found(client, drawn, favourite="true") == ["sun"]
    assert "sun" not in await found(client, drawn, favourite="false")
    assert (await client.get(url)).json()["favourite"] is True

    assert (await stranger.patch(url, json={"favourite": False})).status_code == 404
    for body in ({}, {"favourite": 1}, {"favourite": None}, {"favourite": True, "seed": 1}):
        assert (await client.patch(url, json=body)).status_code == 400, body

    await client.patch(url, json={"favourite": False})
    assert await found(client, drawn, favourite="true") == []


async def test_what_cannot_be_looked_for(client: httpx2.AsyncClient) -> None:
    for query in (
        "q=%00",
        "q=" + "a" * 201,
        "seed=-1",
        "seed=9223372036854775808",
        "seed=1.5",
        "created_after=yesterday",
        "created_before=0.5",
        "created_after=2026-01-01T00:00:00",
        "created_after=0001-01-01T00:00:00%2B14:00",
        "created_before=9999-12-31T23:59:59-14:00",
        "favourite=perhaps",
        "colour=red",
        "model=%00",
    ):
        answer = await client.get(f"/v1/images?{query}")
        assert answer.status_code == 400, query
        assert answer.json()["error"]["type"] == "invalid_request_error"
