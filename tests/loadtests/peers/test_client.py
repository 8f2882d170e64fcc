"""How an arm is asked, against a server that answers some requests late, and some not at all."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from loadtests.peers.arms import Address, ArmFailed
from loadtests.peers.client import PATH, Client
from loadtests.peers.plan import Plan, Trace
from pipelines.bench.trace import Arrival
from pipelines.diffusion.request import Request

DELAYS_S: dict[int, float | None] = {1: 0.0, 2: 0.3, 3: 60.0, 4: None}
"""By steps; None for a refusal."""
LIMIT_S = 3.0


def png(side: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@asynccontextmanager
async def arm(lists: bool = False, side: int = 32) -> AsyncIterator[Client]:
    async def generate(request: web.Request) -> web.Response:
        asked: Any = await request.json()
        asked = asked["asked"][0] if lists else asked
        delay = DELAYS_S[asked["num_inference_steps"]]
        if delay is None:
            return web.Response(status=503)
        await asyncio.sleep(delay)
        return web.json_response([png(side)] if lists else {"data": [{"b64_json": png(side)}]})

    app = web.Application()
    app.router.add_post(PATH, generate)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with Client(
            Address(f"http://127.0.0.1:{runner.addresses[0][1]}", None, lists), 32
        ) as it:
            yield it
    finally:
        await runner.cleanup()


def asked(*steps: int) -> list[Request]:
    requests = Plan(steps=(1, 2, 3, 4)).make(Trace.UNIFORM, 32, 40, 0, "test")
    by_steps = {each.params.num_inference_steps: each for each in requests}
    return [by_steps[each] for each in steps]


async def test_what_is_late_or_refused_counts_with_its_age_at_the_deadline() -> None:
    async with arm() as client:
        arrivals = [Arrival(0.1, each) for each in asked(1, 2, 3, 4)]
        prompt, late, never, refused = await client.replay(arrivals, LIMIT_S)
        assert client.look() == 2
    assert prompt.drawn
    assert late.drawn
    assert prompt.seconds < late.seconds < LIMIT_S
    assert late.seconds >= 0.3
    for each in (never, refused):
        assert not each.drawn
        assert each.seconds == pytest.approx(LIMIT_S - 0.1)


async def test_capacity_is_counted_without_the_first_picture_of_each_client() -> None:
    async with arm() as client:
        rate = await client.saturate(asked(*[2] * 40), clients=4, pictures=8, limit_s=30)
    assert rate <= 4 / 0.3 * 1.5, "four clients, 0.3 s each; two rounds end within a moment"


async def test_capacity_of_an_arm_that_does_not_draw_is_a_failure() -> None:
    async with arm() as client:
        with pytest.raises(ArmFailed, match="0 pictures for 2 clients"):
            await client.saturate(asked(3, 3), clients=2, pictures=8, limit_s=0.2)


@pytest.mark.parametrize("lists", [False, True])
async def test_pictures_are_decoded(lists: bool) -> None:
    async with arm(lists) as client:
        await client.several(asked(1, 1), 2)
        assert client.look() == 2
    async with arm(lists, side=16) as client:
        await client.several(asked(1), 1)
        with pytest.raises(ArmFailed, match=r"PNG of \(16, 16\)"):
            client.look()
