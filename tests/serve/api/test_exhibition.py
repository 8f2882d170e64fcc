"""The artist's pictures, as every tenant sees them: by the API, and in a browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import numpy as np
import pytest
from playwright.async_api import Page
from sqlalchemy import text

from serve.api.services import Services
from serve.artist.schedule import Schedule
from serve.settings import ArtistSettings, Settings
from tests.serve.api.browser import browsing, needs_chromium
from tests.serve.api.drawing import Desk
from tests.serve.api.test_page_accessibility import faults


@pytest.fixture
def settings(settings: Settings) -> Settings:
    artist = ArtistSettings(enabled=True, gpu_seconds_per_day=1e6)
    return settings.model_copy(update={"artist": artist})


async def hang(services: Services, count: int = 1) -> list[str]:
    """Has pictures drawn on the schedule; their titles."""
    desk, titles = Desk(services), []
    schedule = Schedule(
        services.database, services.artist, services.served, services.settings.artist
    )
    for _ in range(count):
        job = await schedule.submit()
        assert job is not None
        titles.append(job.prompt)
        for claim in await desk.claim():
            await desk.finish(claim)
        async with services.database.transaction() as session:
            await session.execute(
                text("UPDATE jobs SET created_at = created_at - interval '1 hour'")
            )
    return titles


async def visit(client: httpx2.AsyncClient, **query: str | int) -> dict[str, Any]:
    answer = await client.get("/v1/exhibition", params=query)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_every_tenant_sees_the_artists_pictures_and_opens_their_files(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    services: Services,
) -> None:
    titles = await hang(services, 2)
    for visitor in (client, stranger):
        shown = await visit(visitor)
        assert shown["date"] == datetime.now(UTC).date().isoformat()
        assert shown["open"]
        assert [each["title"] for each in shown["data"]] == titles[::-1]
        assert all(each["why"]["verdict"]["kept"] == 0 for each in shown["data"])
    for file in shown["data"][0]["files"]:
        opened = await anonymous.get(file["url"])
        assert opened.status_code == 200
        assert opened.headers["content-type"] == file["media_type"]
    assert (await client.get(f"/v1/images/{shown['data'][0]['id']}")).status_code == 404
    assert (await anonymous.get("/v1/exhibition")).status_code == 401


async def test_it_shows_the_artists_own_pictures_alone(
    client: httpx2.AsyncClient, services: Services
) -> None:
    for body in ({"prompt": "a red heart"}, {"mode": "autonomous"}):
        assert (await client.post("/v1/jobs", json=body)).status_code == 202
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    assert (await visit(client))["data"] == []


async def test_days_and_pages(client: httpx2.AsyncClient, services: Services) -> None:
    titles = await hang(services, 3)
    first = await visit(client, limit=2)
    assert first["has_more"]
    second = await visit(client, limit=2, after=first["next"])
    assert [each["title"] for each in (*first["data"], *second["data"])] == titles[::-1]
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert (await visit(client, date=yesterday.isoformat()))["data"] == []
    for wrong in ("yesterday", "1969-01-01", "9999-12-31"):
        answer = await client.get("/v1/exhibition", params={"date": wrong})
        assert (answer.status_code, answer.json()["param"]) == (422, "date")


async def test_a_deleted_picture_is_taken_down(
    client: httpx2.AsyncClient, services: Services
) -> None:
    await hang(services)
    [shown] = (await visit(client))["data"]
    token, _ = await services.keys.create("artist", "curator", ["generate"])  # type: ignore[list-item]
    gone = await client.delete(
        f"/v1/images/{shown['id']}", headers={"Authorization": f"Bearer {token}"}
    )
    assert gone.status_code == 204
    assert (await visit(client))["data"] == []


async def look_around(page: Page, titles: list[str]) -> None:
    await page.locator("#wall img.shown").first.wait_for()
    assert await page.locator("#wall .title").all_inner_texts() == titles[::-1]
    assert await page.locator("h1").inner_text() == "Today's exhibition"
    details = page.locator("#wall details").first
    await details.locator("summary").focus()
    await page.keyboard.press("Enter")
    told = await details.inner_text()
    assert "likely among" in told
    assert "Picture 1: " in told
    assert "kept" in told


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_the_page(
    address: str, key: str, services: Services, scheme: str, width: int
) -> None:
    titles = await hang(services, 2)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    async with browsing(f"{address}/exhibition", **options) as (page, _, errors):
        await page.locator("#key-form").wait_for()
        assert await faults(page) == []
        await page.locator("#key").fill(key)
        await page.keyboard.press("Enter")
        await look_around(page, titles)
        assert await faults(page) == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(overflow) <= 0  # less by the gutter of the scroll bar
        await page.locator("#before").click()
        await page.get_by_text("Nothing hangs here yet.").wait_for()
        assert "Exhibition of" in await page.title()
        assert await faults(page) == []
        await page.go_back()
        await page.locator("#wall img.shown").first.wait_for()
        assert await page.locator("#after").is_disabled()
        await page.get_by_role("link", name="Gallery").click()
        await page.get_by_role("link", name="Exhibition").wait_for()
        assert not errors


@needs_chromium
async def test_the_page_tells_how_to_turn_the_artist_on(
    address: str, key: str, services: Services
) -> None:
    services.settings.artist.__dict__["enabled"] = False
    async with browsing(f"{address}/exhibition#key={key}") as (page, _, errors):
        await page.get_by_text("SFUMATO_ARTIST__ENABLED=true").wait_for()
        assert not errors


@needs_chromium
async def test_the_gallery_shows_the_better_picture_of_an_autonomous_job_alone(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.locator("#status[data-state=ready], #status[data-state=waiting]").wait_for()
        for better in (0, 1):
            answer = await client.post("/v1/jobs", json={"mode": "autonomous"})
            job = answer.json()
            await page.locator(".card.live").nth(1).wait_for()
            desk = Desk(services)
            for claim in await desk.claim():
                pixels = np.full((claim.request.height, claim.request.width, 3), 120, np.uint8)
                if claim.index == better:
                    pixels[::8] = (250, 20, 20)
                await desk.finish(claim, pixels=pixels)
            await page.wait_for_function(
                "count => document.querySelectorAll('.card').length === count", arg=better + 1
            )
            await page.locator(f"#grid img.shown[alt='{job['prompt']}']").first.wait_for()
            await desk.claims.leave(desk._worker_id)  # type: ignore[arg-type]
        assert await page.locator("#list-fault").inner_text() == ""
        assert [each for each in errors if "/v1/images/" not in each] == []
