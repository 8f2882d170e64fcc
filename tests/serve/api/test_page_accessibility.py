"""What axe-core finds in the pages: nothing serious, in light and dark, wide and narrow."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from serve.access.scopes import Scope
from serve.api.services import Services
from tests.serve.api.browser import browsing, drop, finish, needs_chromium, submit
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import file_of, picture

pytestmark = needs_chromium

SERIOUS = {"serious", "critical"}


async def faults(page: Page) -> list[str]:
    """Serious ones, each with where it is."""
    await page.wait_for_timeout(1200)  # what fades in has its colours then
    results = await Axe().run(page)
    violations: list[dict[str, Any]] = results.response["violations"]
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in violations
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


async def overflowing(page: Page) -> list[str]:
    """What juts out of the page's sides, and is in nothing that scrolls."""
    found: list[str] = await page.evaluate("""() =>
      [...document.querySelectorAll("button, input, output, img, canvas")]
        .filter((it) => it.checkVisibility() && !it.closest(".shelf, .unseen"))
        .filter((it) => it.getBoundingClientRect().right > document.documentElement.clientWidth)
        .map((it) => it.outerHTML)""")
    return found


@pytest.fixture(params=[("light", 390), ("light", 1280), ("dark", 390), ("dark", 1280)])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of a page: its colours and its width."""
    scheme, width = request.param
    return {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}


async def test_axe_finds_nothing_serious(
    address: str,
    key: str,
    client: httpx2.AsyncClient,
    services: Services,
    options: dict[str, Any],
) -> None:
    async with browsing(f"{address}/", **options) as (page, _, _errors):
        await page.locator("#key-form").wait_for()
        assert await faults(page) == []
    await submit(client, n=2)
    await finish(services)
    await submit(client)  # this one is being drawn
    async with browsing(f"{address}/#key={key}", **options) as (page, _, errors):
        await page.locator("#grid img.shown").first.wait_for()
        await page.locator("#options summary").click()
        assert await faults(page) == []
        frames = page.locator("#grid button.frame")
        await frames.nth(0).click()
        await page.locator("#detail").wait_for()
        assert await faults(page) == []
        await page.locator("#detail-compare").click()
        await frames.nth(1).click()
        await page.locator("#detail-compare").click()
        await page.locator("#compare").wait_for()
        assert await faults(page) == []
        assert not errors


async def test_of_the_source_the_brush_and_the_albums(
    address: str,
    key: str,
    client: httpx2.AsyncClient,
    services: Services,
    options: dict[str, Any],
) -> None:
    job = await submit(client)
    await finish(services)
    album = (await client.post("/v1/albums", json={"name": "Hearts"})).json()
    await client.put(f"/v1/albums/{album['id']}/images/{job['images'][0]['id']}")
    await submit(client, n=3)
    async with browsing(f"{address}/#key={key}", **options) as (page, _, errors):
        await page.locator("#grid img.shown").wait_for()
        await drop(page, file_of(picture(160, 64)))
        await page.click("#source-mask")
        await page.focus("#mask-canvas")
        await page.keyboard.press("Space")
        assert await faults(page) == []
        await page.click("#mask-done")
        await page.locator("#source-masked").wait_for()
        assert await overflowing(page) == []
        assert await faults(page) == []
        await page.click("#source-use")  # not drawn from
        await page.get_by_role("button", name="Hearts").click()
        await page.locator("#album-form").wait_for()
        assert await page.locator("#queue").is_visible()
        assert await faults(page) == []
        await page.locator("#grid button.frame").click()
        await page.click("#detail-albums summary")
        await page.locator("#detail-album-list input:checked").wait_for()
        assert await overflowing(page) == []
        facts = await page.locator(".facts").bounding_box()
        stage = await page.locator("#detail .stage").bounding_box()
        assert facts is not None
        assert stage is not None
        beside = facts["x"] >= stage["x"] + stage["width"] - 1
        assert beside or facts["y"] >= stage["y"] + stage["height"] - 1
        assert await faults(page) == []
        await page.click("#detail-close")
        await page.click("#album-delete")
        assert await faults(page) == []
        assert not errors


async def test_of_the_operators_page(
    address: str, client: httpx2.AsyncClient, services: Services, options: dict[str, Any]
) -> None:
    async with browsing(f"{address}/operator", **options) as (page, _, _errors):
        await page.locator("#key-form").wait_for()
        assert await faults(page) == []
    desk = Desk(services)
    await submit(client)
    [claim] = await desk.claim()
    await desk.claims.fail(claim, "Storage is full. " * 12)
    token, _ = await services.keys.create("default", "operator", [Scope.OPERATOR])
    async with browsing(f"{address}/operator#key={token}", **options) as (page, _, errors):
        await page.locator("#status[data-state=ready]").wait_for()
        assert await faults(page) == []
        assert not errors
