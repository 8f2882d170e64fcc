"""The gallery in a real browser, behind a proxy that serves it below a path."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, async_playwright
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.services import Services
from tests.serve.api.drawing import Desk

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PREFIX = "/art"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; CHROMIUM may name one")


def below(prefix: str, app: ASGIApp) -> ASGIApp:
    """A proxy that takes the prefix away, and has nothing elsewhere."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        stripped = path.removeprefix(prefix) if path.startswith(f"{prefix}/") else "/not/below"
        await app({**scope, "path": stripped, "raw_path": stripped.encode()}, receive, send)

    return proxy


@asynccontextmanager
async def browsing(url: str, **options: Any) -> AsyncIterator[tuple[Page, list[str], list[str]]]:
    """The page, the paths that it asks for and the errors that it tells of.

    ``options`` are Playwright's of a new page.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = await browser.new_page(**options)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url.replace("ws:", "http:")))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("response", lambda told: errors.append(told.url) if told.status == 404 else None)
        await page.goto(url)
        yield page, asked, errors
        await browser.close()


_DROP = """([base64, pasted]) => {
  const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], "picture.png", { type: "image/png" }));
  const event = pasted
    ? new ClipboardEvent("paste", { bubbles: true, clipboardData: dropped })
    : new DragEvent("drop", { bubbles: true, dataTransfer: dropped });
  document.body.dispatchEvent(event);
}"""


async def drop(page: Page, file: bytes, *, pasted: bool = False) -> None:
    """A PNG on the page, with the mouse or from the clipboard."""
    await page.evaluate(_DROP, [base64.b64encode(file).decode(), pasted])


async def submit(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/jobs", json={"prompt": "a red heart", **fields})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def finish(services: Services) -> None:
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
