"""The pages in a browser, behind a proxy that serves them below a path."""

from __future__ import annotations

import asyncio

import blurhash
import httpx2
import numpy as np
import pytest
from playwright.async_api import Route

from pipelines.imaging.encode import encode
from serve.api.services import Services
from tests.pipelines.imaging.metadata.files import AUTOMATIC1111, METADATA, png
from tests.pipelines.imaging.pictures import scene
from tests.serve.api.browser import browsing, drop, finish, needs_chromium, submit

LARGEST = 2**63 - 2
"""The largest seed of a single picture: that of a second one must be a number as well."""

PIXELS = "it => [...it.getContext('2d').getImageData(0, 0, it.width, it.height).data]"

pytestmark = needs_chromium


@pytest.mark.parametrize("seed", [7, 2**53 + 1, LARGEST])
async def test_the_gallery_below_a_path_shows_and_sends_exact_seeds(
    address: str, key: str, client: httpx2.AsyncClient, services: Services, seed: int
) -> None:
    await submit(client, seed=seed)
    await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, asked, errors):
        await page.locator("#grid > .card button.frame").first.click()
        facts = page.locator("#detail-facts")
        await facts.wait_for()
        assert (await facts.inner_text()).split("\n")[:2] == ["Seed", str(seed)]
        download = page.locator("#detail-download[href]")
        assert await download.get_attribute("download") == f"a-red-heart-{seed}.png"

        await page.click("#detail-reuse")
        assert await page.input_value("#seed") == str(seed)
        await page.click("#composer .primary")
        await page.wait_for_selector(".card.live")
        newest = (await client.get("/v1/jobs?limit=1")).json()["data"][0]
        assert newest["params"]["seed"] == seed
        await finish(services)  # the event comes by the WebSocket, the picture after it
        await page.locator("#grid .picture").nth(1).wait_for(state="attached")

        assert not errors
        assert len(asked) > 10
        assert [url for url in asked if not url.startswith((f"{address}/", "blob:", "data:"))] == []
        assert f"{address}/v1/events" in asked


async def test_a_seed_that_is_none_is_refused_before_it_is_sent(address: str, key: str) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, _):
        await page.click("#options summary")
        for text, valid in (
            ("", True),
            ("0", True),
            (str(2**63), True),  # the server knows the largest
            ("-1", False),
            ("1.5", False),
            ("1e3", False),
            ("seven", False),
        ):
            await page.fill("#seed", text)
            assert await page.evaluate("document.getElementById('seed').validity.valid") is valid

        await page.fill("#prompt", "a red heart")
        await page.fill("#seed", str(2**63))
        await page.click("#composer .primary")
        fault = page.locator("#composer-fault:not(:empty)")
        await fault.wait_for()
        assert "seed" in await fault.inner_text()


async def test_json_keeps_every_whole_number(address: str) -> None:
    async with browsing(f"{address}/") as (page, _, _):
        for text, told in (
            ('{"seed":9007199254740993,"n":9007199254740991}', "9007199254740993 9007199254740991"),
            ('{"seed":-9007199254740993,"n":[1]}', "-9007199254740993 1"),
            ('{"seed":0.12345678901234566,"n":1e21}', "0.12345678901234566 1e+21"),
            ('{"seed":"9007199254740993","n":"a\\"9007199254740993"}', None),
        ):
            script = "text => import('./web/json.js').then(({parse}) => parse(text))"
            got = await page.evaluate(script, text)
            if told is None:
                assert got == {"seed": "9007199254740993", "n": 'a"9007199254740993'}
                continue
            shown = await page.evaluate("([a, b]) => `${a} ${b}`", [got["seed"], got["n"]])
            assert shown == told
        written = await page.evaluate(
            "import('./web/json.js').then(({stringify}) => stringify("
            "{seed: 9223372036854775806n, prompt: 'a \"b\"', n: undefined, images: [1]}))"
        )
        assert written == '{"seed":9223372036854775806,"prompt":"a \\"b\\"","images":[1]}'


async def test_the_reference_below_a_path(address: str) -> None:
    async with browsing(f"{address}/docs") as (page, asked, errors):
        await page.get_by_text("Draw pictures").first.wait_for()
        assert f"{address}/openapi.json" in asked
        assert [url for url in asked if not url.startswith((f"{address}/", "blob:", "data:"))] == []
        assert not errors


async def test_the_form_offers_what_the_model_takes_and_enter_draws(
    address: str, key: str, client: httpx2.AsyncClient
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.click("#options summary")
        await page.wait_for_selector("#format option[value=avif]", state="attached")
        await page.fill("#prompt", "a red heart")
        await page.fill("#size", "64x96")
        await page.select_option("#scheduler", "euler")
        await page.select_option("#format", "webp")
        await page.select_option("#hires", "2")
        await page.fill("#n", "1")
        await page.press("#prompt", "Shift+Enter")
        assert await page.input_value("#prompt") == "a red heart\n"
        await page.press("#prompt", "Enter")
        await page.wait_for_selector(".card.live")
        params = (await client.get("/v1/jobs?limit=1")).json()["data"][0]["params"]
        asked = ("width", "height", "scheduler", "output_format", "n")
        assert [params[name] for name in asked] == [64, 96, "euler", "webp", 1]
        hires = {"scale": 2, "strength": 0.5, "num_inference_steps": params["num_inference_steps"]}
        assert params["hires"] == hires
        assert not errors


async def test_a_picture_is_drawn_again_with_another_seed(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    hires = {"scale": 2.0, "strength": 0.6, "num_inference_steps": 4}
    asked = {"num_inference_steps": 3, "scheduler": "ddim", "output_format": "jpeg"}
    await submit(client, seed=7, hires=hires, **asked)
    await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.locator("#grid > .card button.frame").first.click()
        await page.click("#detail-again")
        await page.wait_for_selector(".card.live")
        params = (await client.get("/v1/jobs?limit=1")).json()["data"][0]["params"]
        assert params["seed"] != 7
        kept = ("prompt", "num_inference_steps", "scheduler", "output_format")
        assert [params[name] for name in kept] == ["a red heart", 3, "ddim", "jpeg"]
        assert params["hires"] == hires
        assert not errors


@pytest.mark.parametrize(
    ("file", "prompt"),
    [
        (png(parameters=AUTOMATIC1111), "a lighthouse"),
        (encode(scene(8, 8), metadata={**METADATA, "seed": LARGEST}), METADATA["prompt"]),
        (encode(scene(8, 8)), None),
    ],
)
async def test_a_file_that_is_dropped_fills_the_form(
    address: str, key: str, file: bytes, prompt: str | None
) -> None:
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.wait_for_selector("#format option[value=avif]", state="attached")
        await drop(page, file)
        if prompt is None:
            await page.get_by_text("Pictures are drawn from this one now").wait_for(
                state="attached"
            )
            assert await page.input_value("#prompt") == ""
            assert await page.get_attribute("#source-use", "aria-pressed") == "true"
            return
        await page.get_by_text("Settings taken from a picture").wait_for(state="attached")
        assert await page.input_value("#prompt") == prompt
        seed = "7" if prompt == "a lighthouse" else str(LARGEST)
        assert await page.input_value("#seed") == seed
        assert await page.get_attribute("#source-use", "aria-pressed") == "false"
        assert not errors


async def test_two_pictures_are_compared(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    for seed in (7, 8):
        await submit(client, seed=seed)
    await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        cards = page.locator("#grid > .card button.frame")
        await cards.nth(1).click()
        await page.get_by_role("button", name="Compare", exact=True).click()
        await cards.nth(0).click()
        await page.get_by_role("button", name="Compare with “a red heart”").click()
        assert "seed 7" in str(await page.locator("#compare-left-told").text_content())
        assert "seed 8" in str(await page.locator("#compare-right-told").text_content())
        await page.locator("#compare-line").press("Home")
        left, right = page.locator("#compare-left"), page.locator("#compare-right")
        assert (
            await left.evaluate("it => getComputedStyle(it).clipPath") == "inset(0px 100% 0px 0px)"
        )
        assert await right.evaluate("it => it.naturalWidth") == 64
        await page.keyboard.press("Escape")
        assert await page.locator("#compare").is_hidden()
        assert not errors


async def test_a_placeholder_stands_until_the_file_arrives(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    await submit(client)
    await finish(services)
    [picture] = (await client.get("/v1/images")).json()["data"]
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        arrives = asyncio.Event()

        async def hold(route: Route) -> None:
            await arrives.wait()
            await route.continue_()

        await page.route("**/thumbnail*", hold)
        await page.reload()
        shown = await page.locator("#grid canvas").evaluate(PIXELS)
        expected = np.array(blurhash.decode(picture["blurhash"], 24, 24))
        assert np.abs(np.reshape(shown, (24, 24, 4))[..., :3] - expected).max() <= 1
        arrives.set()
        await page.locator("#grid img.shown").wait_for()
        await page.locator("#grid canvas").wait_for(state="detached")
        assert not errors


async def test_older_pictures_come_as_they_scroll_into_view(
    address: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    for _ in range(7):
        await submit(client, n=4)
        await finish(services)
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.locator("#grid > .card").nth(23).wait_for()
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await page.locator("#grid > .card").nth(27).wait_for()
        assert await page.locator("#grid > .card").count() == 28
        assert await page.locator("#more").is_hidden()
        assert not errors
