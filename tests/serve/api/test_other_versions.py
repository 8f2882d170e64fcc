"""Rows of another version's, as clients see them: each is told as it is, and hides no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx2
import pytest
import redis.asyncio as redis
from sqlalchemy import text
from websockets.asyncio.client import connect

from serve.access import tickets
from serve.api.services import Services
from tests.serve.api.conftest import client_of
from tests.serve.api.drawing import Desk
from tests.serve.api.test_events import say, submit, told
from tests.serve.api.test_job_events import blocks


async def run(services: Services, statement: str, **values: object) -> None:
    async with services.database.transaction() as session:
        await session.execute(text(statement), values)


@pytest.fixture
async def paused(client: httpx2.AsyncClient, services: Services) -> str:
    """A job in a state that this version has not, with a prompt that is no text."""
    for table in ("job", "image"):
        await run(services, f"ALTER TABLE {table}s DROP CONSTRAINT {table}_state")
    job_id = await submit(client)
    await run(services, "UPDATE images SET state = 'paused'")
    params = json.dumps({"prompt": ["a red heart"], "scheduler": "a-newer-one"})
    await run(
        services,
        "UPDATE jobs SET state = 'paused', params = CAST(:params AS jsonb)",
        params=params,
    )
    return job_id


async def test_a_job_in_a_state_that_is_not_known(
    client: httpx2.AsyncClient, paused: str, services: Services
) -> None:
    readable = await submit(client)
    page = (await client.get("/v1/jobs")).json()["data"]
    assert [(job["id"], job["state"]) for job in page] == [(readable, "queued"), (paused, "paused")]
    looked = (await client.get(f"/v1/jobs/{paused}")).json()
    assert looked == page[1]
    assert looked["prompt"] == ""
    assert looked["params"]["prompt"] == ["a red heart"]
    assert looked["images"][0]["state"] == "paused"
    assert (await client.get("/v1/jobs?state=paused")).status_code == 422, "writers are strict"


async def test_what_is_not_known_is_left_as_it_is(
    client: httpx2.AsyncClient, paused: str, services: Services
) -> None:
    refused = await client.delete(f"/v1/jobs/{paused}")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_finished")
    assert "paused" in refused.json()["detail"]
    assert (await client.get(f"/v1/jobs/{paused}")).json()["state"] == "paused"
    assert (await client.get("/metrics")).status_code == 200
    assert (await client.get("/v1/usage")).status_code == 200


async def test_the_gallery_lists_pictures_of_another_version(
    client: httpx2.AsyncClient, services: Services
) -> None:
    for _ in range(2):
        await submit(client)
    desk = Desk(services)
    for claim in await desk.claim():
        await desk.finish(claim)
    params = json.dumps({"prompt": {"text": "a red heart"}, "regions": []})
    await run(
        services,
        "UPDATE jobs SET params = CAST(:params AS jsonb)"
        " WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1)",
        params=params,
    )
    page = (await client.get("/v1/images")).json()["data"]
    assert [picture["prompt"] for picture in page] == ["a red heart", ""]
    file = await client.get(page[1]["variants"][0]["url"])
    assert file.status_code == 200
    assert "picture-" in file.headers["content-disposition"]


async def newer_events(services: Services, job_id: str) -> None:
    await run(services, "UPDATE jobs SET last_seq = last_seq + 2 WHERE id = :id", id=UUID(job_id))
    for seq, data in ((2, {"until": "later"}), (3, [1])):
        await run(
            services,
            "INSERT INTO events (job_id, seq, type, data)"
            " VALUES (:id, :seq, 'job.paused', CAST(:data AS jsonb))",
            id=UUID(job_id),
            seq=seq,
            data=json.dumps(data),
        )


TYPES = ["job.queued", "job.paused", "job.paused", "job.cancelled"]


async def test_a_socket_tells_of_events_that_are_not_known(
    server: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    job_id = await submit(client)
    await newer_events(services, job_id)
    await client.delete(f"/v1/jobs/{job_id}")
    address = server.replace("http:", "ws:") + "/v1/events"
    async with connect(address, additional_headers={"Authorization": f"Bearer {key}"}) as events:
        await say(events, type="watch", job_id=job_id)
        messages = [await told(events) for _ in range(4)]
        assert [message["type"] for message in messages] == TYPES
        assert [message["seq"] for message in messages] == [1, 2, 3, 4]
        assert messages[1]["data"] == {"until": "later"}
        other = await submit(client)
        await say(events, type="watch", job_id=other)
        assert (await told(events))["job_id"] == other


async def test_a_stream_tells_of_events_that_are_not_known(
    server: str, key: str, client: httpx2.AsyncClient, services: Services
) -> None:
    job_id = await submit(client)
    await newer_events(services, job_id)
    await client.delete(f"/v1/jobs/{job_id}")
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(15),
        httpx2.AsyncClient(base_url=server, headers=headers) as http,
        http.stream("GET", f"/v1/jobs/{job_id}/events") as answer,
    ):
        seen = [(block["event"], block["id"]) async for block in blocks(answer)]
    assert seen == list(zip(TYPES, "1234", strict=True))


async def test_a_scope_that_is_not_known_opens_nothing(
    app: Any, client: httpx2.AsyncClient, services: Services
) -> None:
    await run(services, "ALTER TABLE api_keys DROP CONSTRAINT known_scopes")
    token, key = await services.keys.create("first", "newer")
    await run(services, "UPDATE api_keys SET scopes = '{audit,read}' WHERE id = :id", id=key.id)
    async with client_of(app, token) as newer:
        assert (await newer.get("/v1/jobs")).status_code == 200
        refused = await newer.post("/v1/jobs", json={"prompt": "a red heart"})
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    listed = (await client.get("/v1/keys")).json()["data"]
    assert ["audit", "read"] in [key["scopes"] for key in listed]


async def test_a_ticket_that_tells_more_opens_the_same(
    server: str, client: httpx2.AsyncClient, valkey_url: str
) -> None:
    ticket = (await client.post("/v1/events/tickets")).json()["ticket"]
    async with redis.from_url(valkey_url) as other:
        await other.append(tickets._name(ticket), "/eu")
    address = server.replace("http:", "ws:") + f"/v1/events?ticket={ticket}"
    job_id = await submit(client)
    async with connect(address) as events:
        await say(events, type="watch", job_id=job_id)
        assert (await told(events))["type"] == "job.queued"


async def test_metrics_tell_of_workers_of_another_version(
    client: httpx2.AsyncClient, services: Services
) -> None:
    await run(
        services,
        "INSERT INTO workers (model, device, slots, stats) VALUES"
        """ ('newer', 'cuda', 8, '{"steps": {"all": 3}, "request_steps": "6", "failed": 2}'),"""
        """ ('m', 'cpu', 4, '{"steps": 4, "request_steps": 6}')""",
    )
    told = (await client.get("/metrics")).text
    lines = [line for line in told.splitlines() if line.startswith("sfumato_")]
    assert 'sfumato_workers{pool="default"} 2.0' in lines
    assert [line for line in lines if "engine_failed" in line and 'model="newer"' in line]
    assert [line.split()[-1] for line in lines if line.startswith("sfumato_batch_fill")] == ["1.5"]
