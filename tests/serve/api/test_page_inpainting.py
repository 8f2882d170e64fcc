"""From the brush in the browser to the engine and back: a tiny model draws within the mask."""

from __future__ import annotations

import io

import httpx2
import numpy as np
import pytest
from PIL import Image

from pipelines.imaging.encode import encode
from tests.pipelines.imaging.pictures import scene
from tests.serve.api.browser import browsing, needs_chromium
from tests.serve.api.test_adapters import services, tiny, worker
from tests.serve.api.test_page_source import marked, open_mask, stroke

__all__ = ["services", "tiny", "worker"]

pytestmark = [needs_chromium, pytest.mark.usefixtures("worker")]


async def test_what_is_not_marked_is_the_source_pixel_for_pixel(
    address: str, key: str, client: httpx2.AsyncClient
) -> None:
    source = np.asarray(Image.open(io.BytesIO(encode(scene(64, 64)))).convert("RGB"))
    async with browsing(f"{address}/#key={key}") as (page, _, errors):
        await page.wait_for_selector("#format option[value=avif]", state="attached")
        await open_mask(page)
        await stroke(page, (0.3, 0.4), (0.6, 0.6))
        inside = await marked(page)
        await page.click("#mask-done")
        await page.locator("#mask").wait_for(state="hidden")
        await page.fill("#prompt", "red heart")
        await page.click("#options summary")
        await page.fill("#n", "1")
        await page.fill("#steps", "4")
        await page.click("#composer .primary")
        await page.locator("#grid img.shown").wait_for()
        [shown] = (await client.get("/v1/images")).json()["data"]
        file = (await client.get(f"/v1/images/{shown['id']}/original")).content
        drawn = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

        assert 0.02 < inside.mean() < 0.5
        assert drawn.shape == source.shape
        assert (drawn[~inside] == source[~inside]).all()
        assert (drawn[inside] != source[inside]).any(axis=-1).mean() > 0.9
        assert not errors
