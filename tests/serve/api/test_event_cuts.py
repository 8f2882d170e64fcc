"""Connections cut at random bytes, while pictures are drawn and jobs are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.events.cuts import Account, resume
from loadtests.events.service import Service
from serve.api.services import Services
from serve.pictures.stored_file import StoredFile
from tests.serve.api.drawing import Desk


@pytest.fixture
async def _drawing(services: Services) -> AsyncIterator[None]:
    """Someone who ends every picture a moment after it was asked for."""
    desk = Desk(services)

    async def draw() -> None:
        while True:
            for claim in await desk.claim():
                file = StoredFile("original", "image/png", 8, 8, 9, "0" * 64, str(claim.image_id))
                await desk.claims.complete(claim, [file])  # lost where the job was cancelled
            await asyncio.sleep(0.02)

    drawing = asyncio.create_task(draw())
    yield
    drawing.cancel()
    await asyncio.wait({drawing})


@pytest.mark.usefixtures("_drawing")
@pytest.mark.parametrize("seed", [1, 2])
async def test_resuming_after_cuts_brings_each_event_once(server: str, key: str, seed: int) -> None:
    result = await resume(Service(server, key), cuts=40, longest=2500, seed=seed, followers=2)
    assert result.cuts >= 40
    assert result.events > result.jobs > 20
    assert (result.gaps, result.doubles) == (0, 0)


def test_the_account_sees_gaps_and_doubles() -> None:
    account = Account({"whole": [1, 2, 3], "holed": [1, 3], "doubled": [1, 2, 2], "silent": []})
    assert account.faults({"whole": 3}) == (0, 0)
    assert account.faults({"holed": 4, "silent": 2}) == (4, 0)
    assert account.faults({"doubled": 2}) == (0, 1)
