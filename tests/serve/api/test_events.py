"""The events WebSocket, over a real server on a loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from serve.api.services import Services
from serve.events.event import Event, EventType
from serve.events.flow_control import MESSAGE_COST_BYTES, WINDOW_BYTES
from serve.events.socket import MAX_MESSAGE_CHARS, MAX_WATCHED, OpenSockets

NOBODYS_JOB = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def address(server: str) -> str:
    return server.replace("http:", "ws:") + "/v1/events"


async def told(events: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await events.recv())
    return message


async def say(events: ClientConnection, **message: object) -> None:
    await events.send(json.dumps(message))


async def ending(events: ClientConnection) -> tuple[int, str]:
    """How the server closed the connection, once it has."""
    async with asyncio.timeout(15):
        with suppress(ConnectionClosed):
            while True:
                await events.recv()
    assert events.close_code is not None
    return events.close_code, events.close_reason or ""


async def submit(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/v1/jobs", json={"prompt": "a red heart"})
    assert answer.status_code == 202
    job_id: str = answer.json()["id"]
    return job_id


@pytest.fixture
async def events(address: str, key: str) -> AsyncIterator[ClientConnection]:
    """A connection that carries its key in a header."""
    async with connect(address, additional_headers={"Authorization": f"Bearer {key}"}) as events:
        yield events


async def test_key_in_the_first_message(address: str, key: str, client: httpx2.AsyncClient) -> None:
    job_id = await submit(client)
    async with connect(address) as events:
        await say(events, type="authenticate", key=key)
        assert await told(events) == {"type": "authenticated"}
        await say(events, type="watch", job_id=job_id)
        assert (await told(events))["type"] == "job.queued"


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "authenticate", "key": "sfm_wrong_wrong_wrong_wrong"}',
        '{"type": "watch_all"}',
        '{"type": "authenticate"}',
    ],
)
async def test_no_key_no_events(address: str, first: str) -> None:
    async with connect(address) as events:
        await events.send(first)
        assert (await told(events))["type"] == "error"
        assert (await ending(events))[0] == 4401


async def test_wrong_key_in_a_header(address: str) -> None:
    async with connect(address, additional_headers={"X-API-Key": "x" * 30}) as events:
        assert (await told(events))["problem"]["status"] == 401
        assert (await ending(events))[0] == 4401


async def test_silence_is_no_key(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.events.socket.AUTHENTICATE_WITHIN_S", 0.1)
    async with connect(address) as events:
        assert (await ending(events))[0] == 4401


async def test_watched_job_is_told_from_its_first_event(
    events: ClientConnection, client: httpx2.AsyncClient
) -> None:
    job_id = await submit(client)
    await say(events, type="watch", job_id=job_id)
    queued = await told(events)
    await client.delete(f"/v1/jobs/{job_id}")
    cancelled = await told(events)

    assert set(queued) == {"type", "job_id", "seq", "created_at", "data"}
    assert [(event["type"], event["seq"], event["job_id"]) for event in (queued, cancelled)] == [
        ("job.queued", 1, job_id),
        ("job.cancelled", 2, job_id),
    ]


async def test_resumes_after_the_last_number(
    events: ClientConnection, client: httpx2.AsyncClient
) -> None:
    job_id = await submit(client)
    await client.delete(f"/v1/jobs/{job_id}")

    await say(events, type="watch", job_id=job_id, after=1)

    assert (await told(events))["seq"] == 2


async def test_all_jobs_of_the_tenant_and_no_other(
    events: ClientConnection, client: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    await say(events, type="watch_all")
    theirs = await submit(stranger)
    mine = await submit(client)

    event = await told(events)

    assert (event["type"], event["job_id"]) == ("job.queued", mine)
    await say(events, type="watch", job_id=theirs)
    refused = await told(events)
    assert (refused["type"], refused["job_id"]) == ("error", theirs)
    assert refused["problem"]["code"] == "job_not_found"


async def test_unwatched_job_falls_silent(
    events: ClientConnection, client: httpx2.AsyncClient
) -> None:
    first, second = await submit(client), await submit(client)
    for job_id in (first, second):
        await say(events, type="watch", job_id=job_id)
        await told(events)
    await say(events, type="unwatch", job_id=first)
    await say(events, type="unwatch", job_id=NOBODYS_JOB)  # harmless, and answers the first
    await say(events, type="authenticate", key="again")
    assert (await told(events))["problem"]["code"] == "already_authenticated"

    await client.delete(f"/v1/jobs/{first}")
    await client.delete(f"/v1/jobs/{second}")

    assert (await told(events))["job_id"] == second


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "dance"}, None),
        ({}, None),
        ([], None),
        ({"type": "watch"}, "job_id"),
        ({"type": "watch", "job_id": "7"}, "job_id"),
        ({"type": "watch", "job_id": NOBODYS_JOB, "after": -1}, "after"),
        ({"type": "watch", "job_id": NOBODYS_JOB, "after": True}, "after"),
        ({"type": "watch_all", "please": 1}, None),
    ],
)
async def test_wrong_message_is_answered_and_the_connection_stays(
    events: ClientConnection, message: object, param: str | None
) -> None:
    for _ in range(2):
        await events.send(json.dumps(message))
        answer = await told(events)
        assert answer["type"] == "error"
        assert answer["problem"]["code"] == "invalid_message"
        assert answer["problem"]["param"] == param


@pytest.mark.parametrize(
    ("message", "code"),
    [("{", 1003), (b"{}", 1003), (" " * (MAX_MESSAGE_CHARS + 1), 1009)],
    ids=["broken", "binary", "long"],
)
async def test_no_message_at_all_ends_the_connection(
    events: ClientConnection, message: str | bytes, code: int
) -> None:
    await events.send(message)

    assert (await ending(events))[0] == code


async def test_what_ends_the_connection_is_heard_behind_other_messages(
    events: ClientConnection,
) -> None:
    await say(events, type="watch", job_id=NOBODYS_JOB)  # asks Postgres, while the rest comes
    await say(events, type="sing")
    await events.send(b"{}")
    async with asyncio.timeout(10):  # and not when something else happens
        assert (await told(events))["problem"]["code"] == "job_not_found"
        assert (await told(events))["problem"]["code"] == "invalid_message"
        assert (await ending(events))[0] == 1003


async def test_follows_so_many_jobs_and_no_more(
    events: ClientConnection, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_WATCHED > 2
    monkeypatch.setattr("serve.events.socket.MAX_WATCHED", 2)
    for job_id in [await submit(client) for _ in range(3)]:
        await say(events, type="watch", job_id=job_id)

    answers = [await told(events) for _ in range(3)]

    assert [answer["type"] for answer in answers] == ["job.queued", "job.queued", "error"]
    assert answers[2]["problem"]["code"] == "too_many_watched"


async def test_revoked_key_ends_the_connection(
    events: ClientConnection, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.socket.CHECK_KEY_EVERY_S", 0.1)
    await say(events, type="watch_all")  # from here on it looks every tenth of a second
    for kept in await services.keys.list("first"):
        await services.keys.revoke(kept.id)
    await say(events, type="watch_all")

    assert (await ending(events))[0] == 4401


async def test_a_socket_outlives_an_outage_of_postgres(
    events: ClientConnection,
    client: httpx2.AsyncClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    keys_without_postgres: Callable[[], None],
) -> None:
    monkeypatch.setattr("serve.events.socket.CHECK_KEY_EVERY_S", 0.1)
    job_id = await submit(client)
    await say(events, type="watch", job_id=job_id)
    assert (await told(events))["type"] == "job.queued"
    keys = await services.keys.list("first")
    keys_without_postgres()
    await asyncio.sleep(0.5)  # it has looked several times
    await services.jobs.cancel(keys[0].tenant_id, UUID(job_id))
    assert (await told(events))["type"] == "job.cancelled"

    monkeypatch.setattr(services.keys, "_database", services.database)
    for kept in keys:
        await services.keys.revoke(kept.id)
    assert (await ending(events))[0] == 4401


async def test_stopping_server_says_come_again(events: ClientConnection, app: FastAPI) -> None:
    await say(events, type="watch_all")
    app.state.stopping.set()

    assert (await ending(events))[0] == 1012


def progress(tenant_id: UUID, job_id: str, step: int) -> Event:
    data = {"image_id": "one", "index": 0, "step": step, "steps": 10_000, "preview": "A" * 1000}
    return Event(tenant_id, UUID(job_id), None, EventType.PROGRESS, datetime.now(UTC), data)


async def listening(services: Services) -> None:
    async with asyncio.timeout(10):
        while not services.bus.listening:
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("unpaced")
async def test_acknowledgements_make_room_for_progress(
    events: ClientConnection, client: httpx2.AsyncClient, services: Services, key: str
) -> None:
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    await listening(services)
    job_id = await submit(client)
    await say(events, type="watch", job_id=job_id)
    received = [await told(events)]
    room = WINDOW_BYTES // 2 // MESSAGE_COST_BYTES  # more than fits in half of the window
    for step in range(room):
        await services.bus.publish(progress(tenant_id, job_id, step))
    await client.delete("/v1/jobs/" + await submit(client))  # not watched
    while received[-1]["data"].get("step") is None or "preview" in received[-1]["data"]:
        received.append(await told(events))
    await say(events, type="ack", messages=10_000)
    while received[-1]["type"] != "error":
        received.append(await told(events))
    assert received[-1]["problem"]["code"] == "ack_ahead"
    assert len(received) < room

    await say(events, type="ack", messages=len(received))
    newest = await told(events)
    assert newest["data"]["step"] == room - 1
    await say(events, type="ack", messages=len(received) + 1)
    await services.bus.publish(progress(tenant_id, job_id, room))
    assert "preview" in (await told(events))["data"]


@pytest.mark.usefixtures("unpaced")
async def test_who_never_acknowledges_gets_every_durable_event_of_a_few_jobs(
    events: ClientConnection, client: httpx2.AsyncClient, services: Services, key: str
) -> None:
    tenant_id = (await services.keys.authenticate(key)).tenant_id
    await listening(services)
    jobs = [await submit(client) for _ in range(10)]
    for job_id in jobs:
        await say(events, type="watch", job_id=job_id)
        assert (await told(events))["seq"] == 1
    for step in range(400):
        await services.bus.publish(progress(tenant_id, jobs[step % len(jobs)], step))
    for job_id in jobs:
        await client.delete(f"/v1/jobs/{job_id}")
    seen: list[tuple[str, int]] = []
    while len(seen) < len(jobs):
        event = await told(events)
        if event["seq"]:
            seen.append((event["job_id"], event["seq"]))
    assert seen == [(job_id, 2) for job_id in jobs]


async def test_who_reads_nothing_is_closed_and_resumes_without_loss(
    address: str, key: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.flow_control.SendWindow.__init__.__defaults__", (8 * 1024,))
    monkeypatch.setattr("serve.events.socket.ACKNOWLEDGE_WITHIN_S", 0.2)
    headers = {"Authorization": f"Bearer {key}"}
    seen: dict[str, list[int]] = {}
    async with connect(address, additional_headers=headers) as slow:
        await say(slow, type="watch_all")
        jobs = [await submit(client) for _ in range(12)]
        for job_id in jobs:
            await client.delete(f"/v1/jobs/{job_id}")
        with suppress(ConnectionClosed):
            while True:
                event = await told(slow)
                seen.setdefault(event["job_id"], []).append(event["seq"])
        assert slow.close_code == 1013
        assert 0 < sum(map(len, seen.values())) < 2 * len(jobs)
    async with connect(address, additional_headers=headers) as again:
        received = 0
        for job_id in jobs:
            seqs = seen.setdefault(job_id, [])
            await say(again, type="watch", job_id=job_id, after=max(seqs, default=0))
            while seqs != [1, 2]:
                event = await told(again)
                assert event["job_id"] == job_id
                seqs.append(event["seq"])
                received += 1
            await say(again, type="ack", messages=received)
    assert seen == {job_id: [1, 2] for job_id in jobs}


async def test_a_replay_longer_than_the_window_is_paced_by_acknowledgements(
    address: str, key: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.flow_control.SendWindow.__init__.__defaults__", (8 * 1024,))
    jobs = [await submit(client) for _ in range(40)]
    seen: list[str] = []
    async with connect(address, additional_headers={"X-API-Key": key}) as events:
        await say(events, type="watch_all")
        while len(seen) < len(jobs):
            seen.append((await told(events))["job_id"])
            if len(seen) % 4 == 0:
                await say(events, type="ack", messages=len(seen))
        await client.delete(f"/v1/jobs/{jobs[0]}")
        assert (await told(events))["type"] == "job.cancelled"
    assert sorted(seen) == sorted(jobs)


async def test_replies_are_counted_as_well(
    events: ClientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(WINDOW_BYTES // MESSAGE_COST_BYTES):
        await say(events, type="dance")
    code, reason = await ending(events)
    assert code == 1013
    assert "cknowledge" in reason


async def test_strangers_wait_for_their_keys_in_no_great_number(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.events.socket.MAX_UNAUTHENTICATED", 2)
    strangers = [await connect(address) for _ in range(3)]
    refused = await ending(strangers[2])
    assert refused == (1013, "Too many connections wait for their keys; connect again.")
    await strangers[0].close()
    async with connect(address) as another:
        await say(another, type="watch_all")
        assert (await ending(another))[0] == 4401  # it was asked for its key
    await strangers[1].close()


async def test_a_tenant_has_so_many_connections_and_no_more(
    app: FastAPI, address: str, key: str
) -> None:
    app.state.provided[OpenSockets] = OpenSockets(most_per_tenant=1)
    for _ in range(2):
        async with connect(address, additional_headers={"X-API-Key": key}) as first:
            await say(first, type="watch", job_id=NOBODYS_JOB)
            assert (await told(first))["type"] == "error"
            async with connect(address, additional_headers={"X-API-Key": key}) as second:
                assert await ending(second) == (1013, "1 connections are open; close some.")
