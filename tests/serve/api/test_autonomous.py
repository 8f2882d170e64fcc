"""Jobs whose prompt the artist writes: chosen, explained, never the same, and the better kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from serve.api.services import Services
from serve.artist.grammars import GENERAL
from serve.settings import ArtistSettings, ModerationSettings, Settings
from serve.tables import JobState
from serve.trends.counting import TermCounter
from serve.worker.queue import Claim
from serve.worker.sweeper import Sweeper
from tests.serve.api.conftest import count_rows
from tests.serve.api.drawing import Desk

SMALL = """
themes = "closed"
composition = ["{a palette subject}", "{a subject}, in the rain"]
palette = ["red", "blue"]
subject = [
    { text = "heart", themes = ["love"] },
    { text = "cat", synonyms = ["kitten"], themes = ["animals"] },
    { text = "owl", themes = ["animals"], goes_with = { palette = [] } },
]
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """A vocabulary of seven prompts."""
    grammar = tmp_path / "small.toml"
    grammar.write_text(SMALL)
    blocklist = tmp_path / "blocklist.txt"
    blocklist.write_text("war\n")
    artist = ArtistSettings(grammars={settings.model.name: grammar, "flow": GENERAL})
    moderation = ModerationSettings(blocklist=blocklist)
    return settings.model_copy(update={"artist": artist, "moderation": moderation})


async def ask(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json={"mode": "autonomous", **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def look(client: httpx2.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/jobs/{job['id']}")
    told: dict[str, Any] = answer.json()
    return told


def dull(claim: Claim) -> NDArray[np.uint8]:
    return np.full((claim.request.height, claim.request.width, 3), 120, dtype=np.uint8)


def vivid(claim: Claim) -> NDArray[np.uint8]:
    """Of coloured squares."""
    pixels = dull(claim)
    pixels[::8] = (250, 20, 20)
    pixels[:, ::8] = (20, 20, 250)
    return pixels


async def test_the_artist_writes_draws_and_explains(
    client: httpx2.AsyncClient, services: Services
) -> None:
    job = await ask(client, theme="animals", seed=3, n=1)
    assert job["prompt"] == job["params"]["prompt"]
    assert job["params"]["theme"] == "animals"
    assert (job["n"], [image["seed"] for image in job["images"]]) == (2, [3, 4])
    why = job["why"]
    assert why["theme"] == "animals"
    assert why["grammar"].endswith("small.toml")
    assert (why["verdict"], why["avoided"]) == (None, [])
    assert [each["slot"] for each in why["choices"]][:2] == ["subject", "composition"]
    assert why["choices"][0]["choice"] in ("cat", "owl")
    assert why["choices"][0]["reason"] == "Chosen by weight, 50% likely among 2."
    assert why["choices"][0]["choice"] in job["prompt"]

    desk = Desk(services)
    first, second = sorted(await desk.claim(), key=lambda claim: claim.index)
    assert first.request.prompt == job["prompt"]
    await desk.finish(first, pixels=dull(first))
    await desk.finish(second, pixels=vivid(second))
    done = await look(client, job)
    assert done["state"] == JobState.SUCCEEDED
    worse, better = done["images"]
    assert worse["deleted_at"]
    assert not worse["variants"]
    assert better["deleted_at"] is None
    assert better["variants"]
    assert worse["critique"] == {"sharpness": 0.0, "colourfulness": 0.0}
    assert better["critique"]["sharpness"] > 1000 < better["critique"]["colourfulness"] * 100
    verdict = done["why"]["verdict"]
    assert verdict["kept"] == 1
    assert verdict["scores"]["0"] == 0.0 < verdict["scores"]["1"]
    assert done["why"]["choices"] == why["choices"]
    events = await client.get(f"/v1/jobs/{job['id']}/events")
    assert '"kept":1' in events.text.replace(" ", "")
    listed = (await client.get("/v1/images")).json()["data"]
    assert [each["id"] for each in listed] == [better["id"]]


async def test_files_of_the_worse_picture_are_swept_and_those_of_the_better_stay(
    client: httpx2.AsyncClient, services: Services, settings: Settings
) -> None:
    job = await ask(client)
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim, pixels=vivid(claim) if claim.index else dull(claim))
    sweeper = Sweeper(
        services.database, services.storage, settings.jobs.model_copy(update={"orphan_age_s": -60})
    )
    assert await sweeper.sweep() == 2  # the original and its thumbnail
    better = (await look(client, job))["images"][1]
    for file in better["variants"]:
        assert (await client.get(file["url"])).status_code == 200


async def test_a_picture_that_its_client_deleted_is_not_chosen(
    client: httpx2.AsyncClient, services: Services
) -> None:
    job = await ask(client)
    desk = Desk(services)
    first, second = sorted(await desk.claim(), key=lambda claim: claim.index)
    await desk.finish(second, pixels=vivid(second))
    gone = await client.delete(f"/v1/images/{second.image_id}")
    assert gone.status_code == 204
    await desk.finish(first, pixels=dull(first))
    done = await look(client, job)
    assert done["why"]["verdict"] == {"kept": 0, "scores": {"0": 0.0}}
    assert done["images"][0]["deleted_at"] is None


async def test_whoever_dies_one_picture_is_kept(
    client: httpx2.AsyncClient, services: Services
) -> None:
    """A commit that is repeated, as after a lost connection, chooses no second time."""
    job = await ask(client)
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim, pixels=vivid(claim))
        assert not await desk.claims.complete(claim, [])
    done = await look(client, job)
    assert [image["deleted_at"] is None for image in done["images"]] == [True, False]
    assert await count_rows(services.database, "variants") == 2


async def test_the_same_seed_writes_the_same_prompt(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    jobs = [await ask(each, seed=11) for each in (client, stranger)]
    assert jobs[0]["prompt"] == jobs[1]["prompt"]
    assert jobs[0]["why"] == jobs[1]["why"]


async def test_nothing_is_drawn_twice_not_even_at_once_until_the_window_has_passed(
    client: httpx2.AsyncClient, services: Services, settings: Settings
) -> None:
    jobs = await asyncio.gather(*(ask(client, seed=5) for _ in range(6)))
    jobs.append(await ask(client))
    prompts = {job["prompt"] for job in jobs}
    assert len(prompts) == 7
    assert all(set(job["why"]["avoided"]) <= prompts - {job["prompt"]} for job in jobs)
    assert any(job["why"]["avoided"] for job in jobs)
    full = await client.post("/v1/jobs", json={"mode": "autonomous", "theme": "love"})
    assert (full.status_code, full.json()["code"]) == (409, "nothing_new")
    assert "'love'" in full.json()["detail"]

    async with services.database.transaction() as session:
        await session.execute(
            text("UPDATE jobs SET created_at = now() - interval '31 days' WHERE model = :model"),
            {"model": settings.model.name},
        )
    assert (await ask(client, theme="love"))["prompt"] in prompts


async def test_a_request_that_is_sent_again_is_the_same_job(
    client: httpx2.AsyncClient,
) -> None:
    body = {"mode": "autonomous", "theme": "love"}
    headers = {"Idempotency-Key": "one"}
    same = await asyncio.gather(
        *(client.post("/v1/jobs", json=body, headers=headers) for _ in range(4))
    )
    assert {answer.status_code for answer in same} == {202}
    assert len({answer.json()["id"] for answer in same}) == 1
    other = await client.post("/v1/jobs", json={"mode": "autonomous"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    for _ in range(2):  # all of this theme
        await ask(client, theme="love")
    again = await client.post("/v1/jobs", json=body, headers=headers)
    assert again.json()["id"] == same[0].json()["id"]


async def test_what_is_liked_comes_more_often_and_is_said_to(
    client: httpx2.AsyncClient, services: Services, settings: Settings
) -> None:
    for _ in range(15):
        answer = await client.post("/v1/jobs", json={"prompt": "a kitten"})
        assert answer.status_code == 202
    counter = TermCounter(services.database, settings.trends, services.answers)
    while await counter.count():
        pass
    for seed in range(100):
        job = await ask(client, seed=seed)
        subject = job["why"]["choices"][0]
        if subject["by"] == "trend":
            break
        await client.delete(f"/v1/jobs/{job['id']}")
    assert subject["choice"] == "cat"
    assert subject["share"] > 0.8
    assert "kitten has a score of" in subject["reason"]
    assert "By weight alone it was 33% likely" in subject["reason"]
    # Its own prompts are no askings.
    await counter.count()
    trends = (await client.get("/v1/trends")).json()["data"]
    assert [each["term"] for each in trends] == ["kitten"]


async def test_it_costs_its_tenant_two_pictures(client: httpx2.AsyncClient) -> None:
    await ask(client)
    [used] = (await client.get("/v1/usage")).json()["data"]
    assert (used["jobs"], used["pictures"]) == (1, 2)


@pytest.mark.parametrize(
    ("body", "param", "cure"),
    [
        ({"mode": "autonomous", "prompt": "a cat"}, "prompt", "leave it out"),
        ({"mode": "autonomous", "n": 2}, "n", "leave out `n`"),
        ({"mode": "autonomous", "cache": "allow"}, "cache", "leave it out"),
        ({"mode": "autonomous", "theme": "submarines"}, "theme", "take love, animals"),
        ({"mode": "autonomous", "theme": "x" * 201}, "theme", "200"),
        ({"mode": "manual"}, "mode", "autonomous"),
        ({"prompt": "a cat", "theme": "animals"}, "theme", "into `prompt`"),
        ({"theme": "animals"}, "theme", '"mode": "autonomous"'),
        ({}, "prompt", '"mode": "autonomous"'),
        ({"prompt": ""}, "prompt", "is missing"),
        ({"prompt": " "}, "prompt", "must not be empty"),
    ],
)
async def test_what_does_not_go_together_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any], param: str, cure: str
) -> None:
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["param"] == param
    assert cure in answer.json()["detail"]


async def test_a_theme_is_moderated_like_a_prompt(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"mode": "autonomous", "theme": "war"})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["param"]) == ("content_policy_violation", "theme")


async def test_an_open_grammar_takes_any_theme(client: httpx2.AsyncClient) -> None:
    job = await ask(client, theme="a teapot on a comet", model="flow")
    assert "a teapot on a comet" in job["prompt"]
    assert job["why"]["choices"][0]["by"] == "theme"
    narrowed = await ask(client, theme="sea", model="flow")
    assert narrowed["why"]["choices"][0]["by"] == "weight"
