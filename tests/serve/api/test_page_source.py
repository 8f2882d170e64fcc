"""The gallery draws from a picture: all of it, or where the brush has marked it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.async_api import Page, Route

from pipelines.imaging.encode import encode
from serve.api.services import Services
from serve.storage.storage import Storage
from tests.pipelines.imaging.pictures import scene
from tests.serve.api.browser import browsing, drop, finish, needs_chromium, submit
from tests.serve.api.drawing import Desk
from tests.serve.api.refusals.uploads import file_of, picture

pytestmark = needs_chromium

SOURCE = encode(scene(64, 64))
OVERLAY = "it => [...it.getContext('2d').getImageData(0, 0, it.width, it.height).data]"


async def marked(page: Page) -> NDArray[np.bool_]:
    """(height, width): what the brush has marked on the canvas."""
    canvas = page.locator("#mask-canvas")
    width = int(await canvas.evaluate("it => it.width"))
    return np.reshape(await canvas.evaluate(OVERLAY), (-1, width, 4))[..., 3] >= 128


async def stroke(page: Page, *points: tuple[float, float]) -> None:
    """With the mouse, by shares of the canvas."""
    box = await page.locator("#mask-canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    await page.mouse.move(*places[0])
    await page.mouse.down()
    for place in places[1:]:
        await page.mouse.move(*place, steps=8)
    await page.mouse.up()


async def open_mask(page: Page) -> None:
    await drop(page, SOURCE)
    await page.click("#source-mask")
    await page.locator("#mask[open]").wait_for()


async def stored(storage: Storage, key: object) -> NDArray[np.uint8]:
    file = await storage.get(str(key))
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("pasted", [False, True])
async def test_a_picture_is_drawn_from_at_the_chosen_strength(
    address: str, key: str, client: httpx2.AsyncClient, services: Services, pasted: bool
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.wait_for_selector("#format option[value=avif]", state="attached")
        await drop(page, file_of(picture(96, 64)), pasted=pasted)
        await page.locator("#source").wait_for()
        await page.fill("#prompt", "a red heart")
        await page.fill("#strength", "0.35")
        assert await page.text_content("#strength-told") == "35 %"
        await page.click("#composer .primary")
        await page.wait_for_selector(".card.live")
        [claim, _] = await Desk(services).claim()
        assert (claim.request.strength, claim.request.mask) == (0.35, None)
        assert claim.request.width > claim.request.height

        await page.click("#source-remove")
        assert await page.locator("#source").is_hidden()
        await page.click("#composer .primary")
        await page.locator(".card.live").nth(2).wait_for()
        newest = (await client.get("/v1/jobs?limit=1")).json()["data"][0]
        assert "image" not in newest["params"]
        assert not errors


async def test_a_chosen_file_and_one_that_is_no_picture(
    address: str, key: str, tmp_path: Path
) -> None:
    (tmp_path / "picture.png").write_bytes(SOURCE)
    (tmp_path / "none.png").write_bytes(b"no picture")
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.set_input_files("#file", tmp_path / "none.png")
        fault = page.locator("#composer-fault:not(:empty)")
        await fault.wait_for()
        assert "no picture" in await fault.inner_text()
        assert await page.locator("#source").is_hidden()
        await page.set_input_files("#file", tmp_path / "picture.png")
        await page.locator("#source").wait_for()
        await fault.wait_for(state="detached")
        assert not errors


async def test_a_picture_of_the_gallery_is_drawn_from_and_varied(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    await submit(client, seed=7, num_inference_steps=3)
    await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.wait_for_selector("#format option[value=avif]", state="attached")
        card = page.locator("#grid > .card button.frame").first
        await card.click()
        await page.click("#detail-source")
        await page.locator("#source").wait_for()
        assert await page.input_value("#prompt") == "a red heart"

        await card.click()
        await page.click("#detail-vary")
        await page.locator(".card.live").nth(3).wait_for()
        claims = await Desk(services).claim()
        requests = [claim.request for claim in claims]
        assert {each.n for each in requests} == {4}
        assert {each.strength for each in requests} == {0.6}
        assert {each.num_inference_steps for each in requests} == {3}
        source = await stored(services.storage, requests[0].sources(claims[0].tenant_id)["image"])
        assert (source == 200).all()  # the finished picture
        assert not errors


async def test_the_brush_paints_erases_inverts_and_takes_back(address: str, key: str) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await open_mask(page)
        assert not (await marked(page)).any()
        await stroke(page, (0.25, 0.25), (0.25, 0.75))
        painted = await marked(page)
        assert painted[32, 16]
        assert not painted[:, 32:].any()
        await page.keyboard.press("e")
        await stroke(page, (0.25, 0.5))
        erased = await marked(page)
        assert not erased[32, 16]
        assert erased[16, 16]
        await page.click("#mask-invert")
        assert ((await marked(page)) == ~erased).mean() > 0.99  # but for smoothed edges
        await page.click("#mask-undo")
        assert (await marked(page) == erased).all()
        await page.click("#mask-clear")
        assert not (await marked(page)).any()
        await page.keyboard.press("Control+z")
        await page.keyboard.press("Control+z")
        assert (await marked(page) == painted).all()

        before = float(await page.input_value("#mask-size"))
        await page.keyboard.press("]")
        assert float(await page.input_value("#mask-size")) == before + 1
        await page.click("#mask-clear")
        await page.click("#mask-paint")
        await page.focus("#mask-canvas")
        await page.keyboard.press("Space")
        first = np.flatnonzero((await marked(page)).any(axis=0))
        for arrow in ("ArrowRight", "ArrowRight", "ArrowUp"):
            await page.keyboard.press(arrow)
        await page.keyboard.press("Space")
        dab = await marked(page)
        assert 5 <= len(first) <= 12
        assert np.flatnonzero(dab.any(axis=0)).max() == pytest.approx(first.max() + 8, abs=2)

        await page.click("#mask-done")
        await page.locator("#source-masked").wait_for()
        assert await page.input_value("#strength") == "1"
        await page.click("#source-mask")
        assert (await marked(page) == dab).all()
        await page.keyboard.press("Escape")  # keeps what was
        assert await page.locator("#source-masked").is_visible()
        assert not errors


async def test_a_finger_paints_too(address: str, key: str) -> None:
    options = {"has_touch": True, "viewport": {"width": 390, "height": 800}, "is_mobile": True}
    async with browsing(f"{address}/#key={key}", **options) as (page, _, errors):
        await open_mask(page)
        canvas = page.locator("#mask-canvas")
        await canvas.tap()
        assert (await marked(page))[32, 32]
        box = await canvas.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert not errors


async def test_a_large_picture_is_shrunk_before_it_is_sent(
    address: str, key: str, services: Services
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await drop(page, file_of(Image.new("RGB", (3000, 2000), "teal")))
        await page.click("#source-mask")
        await page.locator("#mask-canvas").wait_for()
        size = await page.locator("#mask-canvas").evaluate("it => [it.width, it.height]")
        assert size[0] * size[1] <= 4.01 * 1024 * 1024
        await stroke(page, (0.5, 0.5))
        await page.click("#mask-done")
        await page.locator("#mask").wait_for(state="hidden")
        await page.fill("#prompt", "a red heart")
        await page.press("#prompt", "Enter")
        await page.wait_for_selector(".card.live")
        claim = (await Desk(services).claim())[0]
        assert claim.request.mask
        assert not errors


async def test_what_was_not_answered_is_asked_for_once(
    address: str, key: str, client: httpx2.AsyncClient
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, _errors):
        answers: list[Any] = []

        async def lose(route: Route) -> None:
            """The first answer never comes, though the server has taken the job."""
            if route.request.method == "POST" and not answers:
                answers.append(await route.fetch())
                await route.abort()
            else:
                await route.continue_()

        await page.route("**/v1/jobs", lose)
        await page.fill("#prompt", "a red heart")
        await page.press("#prompt", "Enter")
        await page.locator("#composer-fault:not(:empty)").wait_for()
        await page.press("#prompt", "Enter")
        await page.locator("#composer-fault:not(:empty)").wait_for(state="detached")
        await page.locator(".card.live").nth(1).wait_for()
        assert len((await client.get("/v1/jobs")).json()["data"]) == 1
        await page.press("#prompt", "Enter")  # asked for anew
        await page.locator(".card.live").nth(3).wait_for()
        assert len((await client.get("/v1/jobs")).json()["data"]) == 2


async def test_the_queue_is_told_and_cancelled(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    for prompt in ("first", "second", "third"):
        await submit(client, prompt=prompt)
    await Desk(services).claim(limit=1)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.locator(".card.live").nth(2).wait_for()
        assert await page.text_content("#queue-told") == "1 being drawn, 2 waiting"
        steps = await page.locator(".card .step").all_inner_texts()
        assert steps == ["Waiting, 1 before it", "Waiting, the next", "Begun"]
        await page.get_by_role("button", name="Cancel: second").click()
        await page.locator(".card.live").nth(2).wait_for(state="detached")
        steps = await page.locator(".card .step").all_inner_texts()
        assert steps == ["Waiting, the next", "Begun"]
        await page.click("#cancel-all")
        await page.locator(".card.live").first.wait_for(state="detached")
        assert await page.locator("#queue").is_hidden()
        jobs = (await client.get("/v1/jobs")).json()["data"]
        assert {job["state"] for job in jobs} == {"cancelled"}
        assert not errors
