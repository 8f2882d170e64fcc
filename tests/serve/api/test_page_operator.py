"""The operator's page in a browser."""

from __future__ import annotations

import httpx2
import pytest

from serve.access.scopes import Scope
from serve.api.services import Services
from tests.serve.api.browser import browsing, needs_chromium, submit
from tests.serve.api.drawing import Desk

pytestmark = needs_chromium


@pytest.fixture
async def operators_key(services: Services) -> str:
    token, _ = await services.keys.create("default", "operator", [Scope.OPERATOR])
    return token


async def test_what_waits_who_draws_and_what_failed(
    address: str, operators_key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    desk = Desk(services)
    await submit(client)
    [claim] = await desk.claim()
    await desk.claims.fail(claim, "Storage is full.")
    await submit(client, n=4)
    await desk.claim(limit=1)
    async with browsing(f"{address}/operator#key={operators_key}") as (page, asked, errors):
        await page.locator("#status[data-state=ready]").wait_for()
        assert await page.text_content("#queued") == "3"
        assert await page.text_content("#running") == "1"
        assert await page.text_content("#replica-count") == "1"
        assert "Storage is full." in await page.inner_text("#failures")
        assert "of 8" in await page.inner_text("#replicas")

        await page.get_by_role("button", name="Pause flow").click()
        await page.get_by_role("button", name="Resume flow").wait_for()
        refused = await client.post("/v1/jobs", json={"prompt": "a", "model": "flow"})
        assert refused.json()["code"] == "model_paused"
        await page.get_by_role("button", name="Resume flow").click()
        await page.get_by_role("button", name="Pause flow").wait_for()

        await submit(client)
        await page.locator("#queued").get_by_text("4", exact=True).wait_for()
        assert not errors
        assert [url for url in asked if not url.startswith(f"{address}/")] == []


async def test_another_key_is_told_what_it_lacks(address: str, key: str) -> None:
    async with browsing(f"{address}/operator#key={key}") as (page, _, errors):
        await page.locator("#key-form").wait_for()
        assert "`operator`" in await page.inner_text("#key-fault")
        assert await page.locator("#overview").is_hidden()
        assert not errors
