"""Events that are written past ASGI, on real connections to uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from serve.api.outbox import Outbox
from serve.api.services import Services
from serve.api.wire import Wire
from serve.events import Event, EventType
from tests.serve.api.conftest import serving
from tests.serve.api.test_events import listening, say, submit, told

BULK = "A" * 100_000


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that went by wire."""
    noted: list[str] = []
    write = Wire.write

    def note(wire: Wire, texts: Sequence[str]) -> None:
        noted.extend(texts)
        write(wire, texts)

    monkeypatch.setattr(Wire, "write", note)
    return noted


@pytest.fixture
def wide_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a connection's buffers take."""
    monkeypatch.setattr(Outbox.__init__, "__defaults__", (1 << 30,))


@pytest.fixture
async def events(server: str, key: str) -> AsyncIterator[ClientConnection]:
    address = server.replace("http:", "ws:") + "/v1/events"
    async with connect(address, additional_headers={"X-API-Key": key}, max_size=None) as events:
        yield events


async def sockets(client: httpx2.AsyncClient, way: str) -> str:
    """How many are open of this way."""
    metrics = (await client.get("/metrics")).text
    [line] = [line for line in metrics.splitlines() if f'way="{way}"' in line]
    return line.split()[1]


async def test_what_happens_while_the_socket_sleeps_goes_by_wire(
    events: ClientConnection, client: httpx2.AsyncClient, services: Services, written: list[str]
) -> None:
    await listening(services)
    await say(events, type="watch_all")
    await say(events, type="dance")
    assert (await told(events))["type"] == "error"  # it has done all that was asked of it
    jobs = [await submit(client) for _ in range(5)]
    for job_id in jobs:
        await client.delete(f"/v1/jobs/{job_id}")
    heard = [await events.recv() for _ in range(10)]
    assert written == heard
    assert await sockets(client, "wire") == "1.0"
    await events.close()
    async with asyncio.timeout(10):
        while await sockets(client, "wire") != "0.0":
            await asyncio.sleep(0.01)


async def test_a_client_that_compresses_has_no_wire(
    app: FastAPI, client: httpx2.AsyncClient, services: Services, key: str, written: list[str]
) -> None:
    await listening(services)
    async with (
        serving(app, compresses=True) as server,
        connect(
            server.replace("http:", "ws:") + "/v1/events", additional_headers={"X-API-Key": key}
        ) as events,
    ):
        assert events.protocol.extensions
        await say(events, type="watch_all")
        job_id = await submit(client)
        assert (await told(events))["job_id"] == job_id
        assert await sockets(client, "asgi") == "1.0"
    assert written == []


@pytest.mark.usefixtures("unpaced", "wide_window")
async def test_a_wire_that_is_full_waits_and_loses_nothing(
    events: ClientConnection,
    client: httpx2.AsyncClient,
    services: Services,
    key: str,
    written: list[str],
) -> None:
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    await listening(services)
    await say(events, type="watch_all")
    job_id = await submit(client)
    assert (await told(events))["seq"] == 1
    events.transport.pause_reading()
    for step in range(200):
        data = {"image_id": "one", "step": step, "bulk": BULK}
        await services.bus.publish(
            Event(tenant_id, UUID(job_id), None, EventType.PROGRESS, datetime.now(UTC), data)
        )
    await client.delete(f"/v1/jobs/{job_id}")
    async with asyncio.timeout(60):
        while services.bus._wave._waiting or not written:
            await asyncio.sleep(0.01)
    by_wire = len(written)
    assert by_wire < 200, "the rest waits for room"
    events.transport.resume_reading()
    heard = [await told(events)]
    while heard[-1]["type"] != EventType.CANCELLED:
        heard.append(await told(events))
    assert [event["data"]["step"] for event in heard[:-1]] == list(range(200))
    assert len(written) == by_wire
    next_job = await submit(client)
    assert (await told(events))["job_id"] == next_job
    assert len(written) == by_wire + 1, "there is room again"
