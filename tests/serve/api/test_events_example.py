"""The client that docs/events.md shows, run as it stands there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from serve.api.services import Services
from tests.serve.api.drawing import Desk

PAGE = Path(__file__).parents[3] / "docs" / "events.md"
Follow = Callable[[str, str, set[str]], AsyncIterator[dict[str, Any]]]


@pytest.fixture
def follow() -> Follow:
    code = re.search(r"```python\n(import json\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 - the page's own
    found: Follow = names["follow"]
    return found


async def test_it_brings_every_event_once_over_two_connections(
    app: FastAPI,
    server: str,
    key: str,
    client: httpx2.AsyncClient,
    services: Services,
    follow: Follow,
) -> None:
    body = {"prompt": "a red heart", "n": 2}
    jobs = {(await client.post("/v1/jobs", json=body)).json()["id"] for _ in range(2)}
    desk = Desk(services)
    told: list[tuple[str, int]] = []
    async for event in follow(f"ws{server.removeprefix('http')}/v1/events", key, set(jobs)):
        told.append((event["job_id"], event["seq"]))
        if len(told) == 2:  # both are queued: the connection ends, and meanwhile all is drawn
            app.state.stopping.set()
            for claim in await desk.claim():
                await desk.finish(claim)
            app.state.stopping.clear()

    for job in jobs:
        assert [seq for job_id, seq in told if job_id == job] == [1, 2, 3, 4, 5]


async def test_it_raises_what_the_server_says_of_a_job_that_is_not_there(
    server: str, key: str, follow: Follow
) -> None:
    events = follow(
        f"ws{server.removeprefix('http')}/v1/events", key, {"01a2b3c4-0000-7000-8000-000000000000"}
    )
    with pytest.raises(LookupError, match="no job"):
        await anext(events)
