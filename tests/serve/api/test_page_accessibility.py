"""What axe-core finds in the gallery: nothing serious, in light and dark, wide and narrow."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from serve.api.services import Services
from tests.serve.api.browser import browsing, finish, needs_chromium, submit

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_axe_finds_nothing_serious(
    address: str,
    key: str,
    client: httpx2.AsyncClient,
    services: Services,
    scheme: str,
    width: int,
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
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
