"""The clients of the soak test, on the real app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from loadtests.events.service import Service
from loadtests.soak import clients
from loadtests.soak.clients import Kind, Load
from serve.api.services import Services
from serve.worker.delivery import PostprocessTask, store_picture
from tests.serve.api.drawing import Desk


@pytest.fixture
async def _drawing(services: Services) -> AsyncIterator[None]:
    """Someone who draws every picture some while after it was asked for."""
    desk = Desk(services)

    async def draw() -> None:
        while True:
            for claim in await desk.claim():
                pixels = np.zeros((claim.request.height, claim.request.width, 3), np.uint8)
                stored = await store_picture(services.storage, pixels, PostprocessTask.of(claim))
                await desk.claims.complete(claim, stored.files)  # lost where the job was cancelled
            await asyncio.sleep(0.6)  # so that some are cancelled before

    drawing = asyncio.create_task(draw())
    yield
    drawing.cancel()
    await asyncio.wait({drawing})


@pytest.mark.usefixtures("_drawing")
async def test_every_kind_of_client_hears_of_the_end(
    server: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_BROWSE_EVERY_S", 0.5)
    load = Load(Service(server, key), jobs_per_s=10, seed=1)
    await load.run(4)
    tally = load.tally
    assert tally.faults == {}
    assert set(tally.asked) == set(Kind)
    assert tally.asked.total() == 40
    assert tally.answered == tally.asked[Kind.SYNCHRONOUS]
    assert len(tally.states) == 40 - tally.answered
    assert set(tally.states.values()) == {"succeeded", "cancelled"}
    assert (tally.lost, tally.refused, tally.idle_closed) == (0, 0, 0)
    assert tally.downloads > 0


async def test_jobs_that_nobody_draws_are_lost(
    server: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_PATIENCE_S", 8.0)
    load = Load(Service(server, key), jobs_per_s=20, seed=1)
    await load.run(1)
    tally = load.tally
    cancelled = tally.by_state["cancelled"]
    assert 0 < cancelled == tally.asked[Kind.CANCEL]
    assert tally.lost == tally.by_state["queued"] > 0
    assert tally.faults.total() == 20 - cancelled
