"""A page stays open while the server is stopped and started again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import uvicorn

from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.events.event import Event, EventType
from serve.settings import Settings
from serve.worker.queue import Claim
from tests.serve.api.browser import browsing, needs_chromium
from tests.serve.api.conftest import FLOW, MODEL
from tests.serve.api.drawing import Desk

pytestmark = needs_chromium


@asynccontextmanager
async def running(settings: Settings, port: int) -> AsyncIterator[Services]:
    """The whole server on that port, as one process has it: ended by a signal's way."""
    services = open_services(settings)
    services.served.descriptions = {settings.model.name: MODEL, "flow": FLOW}
    app = create_app(services)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    yield services
    app.state.stopping.set()  # what `sfumato up` does first: sockets close with 1012
    server.should_exit = True
    await task


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def progress(claim: Claim, step: int) -> Event:
    data = {"image_id": str(claim.image_id), "index": claim.index, "step": step, "steps": 20}
    return Event(claim.tenant_id, claim.job_id, None, EventType.PROGRESS, datetime.now(UTC), data)


async def test_the_drawing_goes_on_and_nothing_is_doubled(settings: Settings) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with running(settings, port) as services:
        key, _ = await services.keys.create("first", "test", [Scope.ADMIN])
        context = browsing(f"{url}/#key={key}")
        page, _, errors = await context.__aenter__()
        await page.fill("#prompt", "a red heart")
        await page.press("#prompt", "Enter")
        await page.locator(".card.live").nth(1).wait_for()
        first, second = await Desk(services).claim()
        await services.bus.publish(progress(first, 7))
        await page.get_by_text("Step 7 of 20").wait_for()

    await page.locator("#status[data-state=offline]").wait_for()
    assert await page.text_content("#status") == "Reconnecting"
    assert await page.get_by_text("Step 7 of 20").is_visible()

    async with running(settings, port) as services:
        desk = Desk(services)
        await desk.finish(first)  # before the page is back
        await page.locator("#status:not([data-state=offline])").wait_for(timeout=20_000)
        await page.locator("#grid img.shown").wait_for(timeout=20_000)
        await services.bus.publish(progress(second, 19))
        await page.get_by_text("Step 19 of 20").wait_for()
        await desk.finish(second)
        await page.locator("#grid img.shown").nth(1).wait_for()
        assert await page.locator("#grid > .card").count() == 2
        assert await page.locator(".card.live").count() == 0
        assert not errors
        await context.__aexit__(None, None, None)
