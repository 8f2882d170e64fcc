"""A job's events by Server-Sent Events, over a real server on a loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from serve.api.services import Services
from serve.events.event import Event, EventType
from tests.serve.api.test_events import NOBODYS_JOB, listening, submit


@pytest.fixture
async def http(server: str, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=server, headers=headers, timeout=20) as client:
        yield client


def parse(block: str) -> dict[str, str]:
    """Field by field, as the standard has it; a comment's name is empty."""
    fields = [line.partition(": ") for line in block.split("\n")]
    return {name.removeprefix(":"): value for name, _, value in fields}


async def blocks(answer: httpx2.Response) -> AsyncIterator[dict[str, str]]:
    rest = ""
    async for text in answer.aiter_text():
        rest += text
        while "\n\n" in rest:
            block, rest = rest.split("\n\n", 1)
            yield parse(block)
    assert rest == ""


async def whole(http: httpx2.AsyncClient, url: str, **headers: str) -> list[tuple[str, str | None]]:
    """Event and id of all blocks of a stream that ends."""
    async with asyncio.timeout(15), http.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        return [(block["event"], block.get("id")) async for block in blocks(answer)]


def progress(tenant_id: UUID, job_id: str, step: int) -> Event:
    data = {"image_id": "one", "step": step, "preview": "A" * 1000}
    return Event(tenant_id, UUID(job_id), None, EventType.PROGRESS, datetime.now(UTC), data)


async def test_an_ended_job_is_replayed_to_its_end(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http)
    await http.delete(f"/v1/jobs/{job_id}")
    url = f"/v1/jobs/{job_id}/events"

    async with http.stream("GET", url) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        queued, cancelled = [block async for block in blocks(answer)]

    assert (queued["event"], queued["id"]) == ("job.queued", "1")
    assert (cancelled["event"], cancelled["id"]) == ("job.cancelled", "2")
    told = json.loads(cancelled["data"])
    assert (told["type"], told["job_id"], told["seq"]) == ("job.cancelled", job_id, 2)
    assert await whole(http, f"{url}?after=1") == [("job.cancelled", "2")]
    assert await whole(http, url, **{"Last-Event-ID": "1"}) == [("job.cancelled", "2")]
    assert await whole(http, f"{url}?after=2", **{"Last-Event-ID": "1"}) == [("job.cancelled", "2")]


async def test_who_saw_the_end_is_told_not_to_come_back(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http)
    await http.delete(f"/v1/jobs/{job_id}")
    for asked in ({"headers": {"Last-Event-ID": "2"}}, {"params": {"after": "2"}}):
        answer = await http.get(f"/v1/jobs/{job_id}/events", **asked)  # type: ignore[arg-type]
        assert answer.status_code == 204
        assert answer.content == b""
        assert answer.headers["x-request-id"]


async def test_a_live_job_is_followed_to_its_end(
    http: httpx2.AsyncClient, services: Services, key: str
) -> None:
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    await listening(services)
    job_id = await submit(http)
    for previews in (False, True):
        seen: list[dict[str, Any]] = []
        url = f"/v1/jobs/{job_id}/events?previews={previews}".lower()
        async with asyncio.timeout(15), http.stream("GET", url) as answer:
            async for block in blocks(answer):
                seen.append(block)
                if len(seen) == 1:
                    await services.bus.publish(progress(tenant_id, job_id, 7))
                elif previews and len(seen) == 2:
                    await http.delete(f"/v1/jobs/{job_id}")
                elif len(seen) == 2:
                    break
        assert (seen[1]["event"], "id" in seen[1]) == ("image.progress", False)
        assert ("preview" in json.loads(seen[1]["data"])["data"]) is previews
    assert (seen[2]["event"], seen[2]["id"]) == ("job.cancelled", "2")


@pytest.mark.usefixtures("unpaced")
async def test_progress_ends_with_its_budget_and_durable_events_do_not(
    http: httpx2.AsyncClient, services: Services, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.sse.PROGRESS_BYTES", 5 * 2048)
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    await listening(services)
    job_id = await submit(http)
    url = f"/v1/jobs/{job_id}/events?previews=true"
    seen: list[str] = []
    async with asyncio.timeout(15), http.stream("GET", url) as answer:
        async for block in blocks(answer):
            if not seen:
                for step in range(40):
                    await services.bus.publish(progress(tenant_id, job_id, step))
                await http.delete(f"/v1/jobs/{job_id}")
            seen.append(block["event"])
    assert seen[0] == "job.queued"
    assert seen[-1] == "job.cancelled"
    assert 3 <= seen.count("image.progress") <= 7
    assert len(seen) == seen.count("image.progress") + 2


async def test_a_silent_stream_is_kept_alive(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    job_id = await submit(http)
    async with asyncio.timeout(15), http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        told = blocks(answer)
        while "event" not in await anext(told):
            pass
        assert set(await anext(told)) == {""}, "a comment"


async def test_a_stopping_server_ends_the_stream(http: httpx2.AsyncClient, app: FastAPI) -> None:
    job_id = await submit(http)
    url = f"/v1/jobs/{job_id}/events"
    async with asyncio.timeout(15), http.stream("GET", url) as answer:
        told = blocks(answer)
        await anext(told)
        app.state.stopping.set()
        assert [block async for block in told] == []


async def test_a_revoked_key_ends_the_stream(
    http: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.sse.CHECK_KEY_EVERY_S", 0.1)
    job_id = await submit(http)
    async with asyncio.timeout(15), http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        told = blocks(answer)
        await anext(told)
        for kept in await services.keys.list("first"):
            await services.keys.revoke(kept.id)
        assert [block async for block in told] == []


async def test_a_stream_outlives_an_outage_of_postgres(
    http: httpx2.AsyncClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    keys_without_postgres: Callable[[], None],
) -> None:
    monkeypatch.setattr("serve.events.sse.CHECK_KEY_EVERY_S", 0.1)
    job_id = await submit(http)
    tenant_id = (await services.keys.list("first"))[0].tenant_id
    async with asyncio.timeout(15), http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        stream = blocks(answer)
        await anext(stream)
        keys_without_postgres()
        await asyncio.sleep(1.5)  # it looks once a second
        await services.jobs.cancel(tenant_id, UUID(job_id))
        assert len([block async for block in stream]) == 1


async def test_nothing_is_left_behind_by_a_client_that_leaves(
    http: httpx2.AsyncClient, services: Services
) -> None:
    job_id = await submit(http)
    async with http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        await anext(blocks(answer))
        assert services.bus._listeners
    async with asyncio.timeout(10):
        while services.bus._listeners:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (f"/v1/jobs/{NOBODYS_JOB}/events", {}, 404, "job_not_found"),
        ("/v1/jobs/7/events", {}, 422, "invalid_value"),
        (f"/v1/jobs/{NOBODYS_JOB}/events?after=-1", {}, 422, "invalid_value"),
        (f"/v1/jobs/{NOBODYS_JOB}/events?before=1", {}, 422, "invalid_value"),
        (f"/v1/jobs/{NOBODYS_JOB}/events", {"Last-Event-ID": "x"}, 422, "invalid_value"),
        (f"/v1/jobs/{NOBODYS_JOB}/events", {"Authorization": "Bearer x"}, 401, "invalid_api_key"),
    ],
)
async def test_errors_come_before_the_stream(
    http: httpx2.AsyncClient, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await http.get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


async def test_strangers_see_no_stream(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    job_id = await submit(http)
    answer = await stranger.get(f"/v1/jobs/{job_id}/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
