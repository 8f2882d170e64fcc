"""The app behind uvicorn in a thread of its own, for clients that block; somebody draws."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import count

import uvicorn
import uvloop

from pipelines.diffusion.catalog import ModelDescription
from serve.access.scopes import Scope
from serve.api.app import create_app
from serve.api.services import Services, open_services
from serve.jobs.limits import ServedModels
from serve.settings import Settings
from serve.worker.queue import Claim
from tests.serve.api.drawing import Desk

LOOK_EVERY_S = 0.05
BEAT_EVERY = 20
"""Looks."""


@contextlib.contextmanager
def served(settings: Settings, model: ModelDescription) -> Iterator[tuple[str, str]]:
    """Its address, and a key that may do everything.

    It runs on uvloop, as under Ray: asyncio's own loop leaves Nagle's algorithm on for the sockets
    of a listener that it is handed, which holds each answer up for 40 ms.

    Pictures of even seeds are drawn at once, those of odd ones when nobody waits any more.
    """
    started: Future[tuple[str, str]] = Future()
    stopping = threading.Event()
    thread = threading.Thread(
        target=lambda: uvloop.run(_serve(settings, model, started, stopping)), name="served"
    )
    thread.start()
    try:
        yield started.result(timeout=30)
    finally:
        stopping.set()
        thread.join()


async def _serve(
    settings: Settings,
    model: ModelDescription,
    started: Future[tuple[str, str]],
    stopping: threading.Event,
) -> None:
    try:
        services = replace(
            open_services(settings), served=ServedModels(settings, {settings.model.name: model})
        )
        app = create_app(services)
        async with app.router.lifespan_context(app):
            key, _ = await services.keys.create("first", "test", [Scope.OPERATOR])
            listener = socket.create_server(("127.0.0.1", 0))
            server = uvicorn.Server(
                uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=3)
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            drawing = asyncio.create_task(_draw(services))
            started.set_result((f"http://127.0.0.1:{listener.getsockname()[1]}", key))
            while not stopping.is_set():
                await asyncio.sleep(LOOK_EVERY_S)
            drawing.cancel()
            server.should_exit = True
            await asyncio.gather(serving, drawing, return_exceptions=True)
            listener.close()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


async def _draw(services: Services) -> None:
    desk = Desk(services)
    late = services.settings.jobs.wait_timeout_s * 2
    async with asyncio.TaskGroup() as pictures:
        for look in count():
            for claim in await desk.claim():
                pictures.create_task(_finish(desk, claim, late if claim.request.seed % 2 else 0))
            if look % BEAT_EVERY == 0:
                await desk.beat()
            await asyncio.sleep(LOOK_EVERY_S)


async def _finish(desk: Desk, claim: Claim, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with contextlib.suppress(AssertionError):  # it was cancelled meanwhile
        await desk.finish(claim)
