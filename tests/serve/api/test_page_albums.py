"""Albums in the gallery: a picture is put into one, which is shown alone, renamed and deleted."""

from __future__ import annotations

import httpx2

from serve.api.services import Services
from tests.serve.api.browser import browsing, finish, needs_chromium, submit

pytestmark = needs_chromium


async def test_an_album_from_its_making_to_its_end(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    for prompt in ("a red heart", "a panda"):
        await submit(client, prompt=prompt)
    await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        cards = page.locator("#grid > .card")
        frames = page.locator("#grid > .card button.frame")
        assert await page.locator("#albums").is_hidden()
        await frames.nth(1).click()
        await page.click("#detail-albums summary")
        await page.fill("#new-album", "Hearts")
        await page.press("#new-album", "Enter")
        await page.locator("#detail-album-list input:checked").wait_for()
        await page.fill("#new-album", "Hearts")
        await page.click("#new-album-put")
        fault = page.locator("#detail-albums-fault:not(:empty)")
        await fault.wait_for()
        assert "take another name" in await fault.inner_text()
        await page.click("#detail-close")

        album = page.get_by_role("button", name="Hearts")
        assert "1 picture" in await album.inner_text()
        await album.locator("img").wait_for()
        await album.click()
        await cards.nth(1).wait_for(state="detached")
        assert await cards.locator(".title").all_inner_texts() == ["a red heart"]

        await page.fill("#album-name", "Red hearts")
        await page.press("#album-name", "Enter")
        await page.get_by_role("button", name="Red hearts").wait_for()

        await page.get_by_role("button", name="All pictures").click()
        await cards.nth(1).wait_for()
        await frames.nth(0).click()
        await page.locator("#detail-album-list input:not(:checked)").check()
        await page.click("#detail-close")
        album = page.get_by_role("button", name="Red hearts")
        await album.get_by_text("2 pictures").wait_for()
        await album.click()
        await frames.nth(1).click()
        await page.click("#detail-cover")
        await page.get_by_text("stands for the album now").wait_for(state="attached")
        [told] = (await client.get("/v1/albums")).json()["data"]
        shown = (await client.get("/v1/images", params={"album": told["id"]})).json()["data"]
        assert told["cover_id"] == shown[1]["id"]

        await page.locator("#detail-album-list input:checked").uncheck()
        await page.click("#detail-close")
        await cards.nth(1).wait_for(state="detached")

        await page.click("#album-delete")
        assert "its pictures stay" in await page.inner_text("#confirm-what")
        await page.click("#confirm-yes")
        await cards.nth(1).wait_for()
        assert await page.locator("#albums").is_hidden()
        assert (await client.get("/v1/albums")).json()["data"] == []
        assert not errors
