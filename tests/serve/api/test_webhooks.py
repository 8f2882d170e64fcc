"""Webhooks over HTTP: added, listed, removed; what could not be delivered, and once more."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from serve.access.scopes import Scope
from serve.api.services import Services
from serve.settings import Settings, WebhookSettings
from serve.webhooks.courier import Courier
from tests.serve.api.conftest import client_of, count_rows
from tests.serve.api.test_health import samples
from tests.serve.webhooks.receiver import Receiver, receiving

HOOK = {"url": "https://example.com/hook"}
TERMINAL = ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def courier(services: Services) -> AsyncIterator[None]:
    """One that reaches loopback, and tries twice."""
    settings = WebhookSettings(allow_private=True, attempts=2, first_delay_s=0.01, poll_s=0.05)
    running = asyncio.create_task(Courier(services.database, settings).run())
    yield
    running.cancel()
    await asyncio.wait([running])


async def add(client: httpx2.AsyncClient, **changes: object) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={**HOOK, **changes})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


async def end_a_job(client: httpx2.AsyncClient) -> str:
    job_id: str = (await client.post("/v1/jobs", json={"prompt": "a red heart"})).json()["id"]
    await client.delete(f"/v1/jobs/{job_id}")
    return job_id


async def lead_to(services: Services, address: str) -> None:
    """Point every webhook at a server on loopback, which the API itself refuses."""
    async with services.database.transaction() as session:
        await session.execute(text("UPDATE webhooks SET url = :url"), {"url": address})


async def deliveries(
    client: httpx2.AsyncClient, webhook: dict[str, Any], **params: Any
) -> dict[str, Any]:
    answer = await client.get(f"/v1/webhooks/{webhook['id']}/deliveries", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def wait_for(client: httpx2.AsyncClient, webhook: dict[str, Any], state: str) -> list[Any]:
    async with asyncio.timeout(20):
        while not (found := (await deliveries(client, webhook, state=state))["data"]):
            await asyncio.sleep(0.02)
    return list(found)


async def test_the_secret_is_told_once(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/webhooks", json=HOOK)

    assert answer.status_code == 201
    webhook = answer.json()
    assert answer.headers["location"] == f"/v1/webhooks/{webhook['id']}"
    secret = webhook.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert webhook["events"] == TERMINAL
    assert webhook["url"] == HOOK["url"]
    assert (await client.get("/v1/webhooks")).json() == {"data": [webhook]}
    assert (await client.get(f"/v1/webhooks/{webhook['id']}")).json() == webhook


async def test_a_key_that_only_reads_does_not_see_where_a_webhook_leads(
    app: FastAPI, client: httpx2.AsyncClient, services: Services
) -> None:
    secret = "https://hooks.example.com:8443/services/T0/B0/XXXX?token=YYYY"
    webhook = await add(client, url=secret)
    token, _ = await services.keys.create("first", "phone", [Scope.READ])

    async with client_of(app, token) as reader:
        one = await reader.get(f"/v1/webhooks/{webhook['id']}")
        every = await reader.get("/v1/webhooks")
        await lead_to(services, "https://name:password@example.com/hook")
        with_user = await reader.get("/v1/webhooks")

    assert one.json()["url"] == "https://hooks.example.com:8443/…"
    assert every.json()["data"] == [one.json()]
    assert with_user.json()["data"][0]["url"] == "https://example.com/…"
    seen = (await client.get(f"/v1/webhooks/{webhook['id']}")).json()
    assert seen["url"] == "https://name:password@example.com/hook"


async def test_a_new_secret(client: httpx2.AsyncClient) -> None:
    webhook = await add(client)

    renewed = (await client.post(f"/v1/webhooks/{webhook['id']}/rotate")).json()

    assert renewed["secret"] != webhook["secret"]
    assert renewed["rotated_at"]
    assert renewed["id"] == webhook["id"]


async def test_chosen_events_each_once(client: httpx2.AsyncClient) -> None:
    webhook = await add(client, events=["job.failed", "image.succeeded", "job.failed"])

    assert webhook["events"] == ["job.failed", "image.succeeded"]


async def test_refusals(client: httpx2.AsyncClient, services: Services) -> None:
    for body, code, param in (
        ({}, "missing_field", "url"),
        ({"url": 5}, "invalid_value", "url"),
        ({"url": "http://example.com/"}, "invalid_url", "url"),
        ({"url": "https://127.0.0.1/"}, "invalid_url", "url"),
        ({"url": "https://example.com:99999/"}, "invalid_url", "url"),
        ({**HOOK, "events": []}, "invalid_value", "events"),
        ({**HOOK, "events": ["job.dreamt"]}, "invalid_value", "events.0"),
        ({**HOOK, "events": ["image.progress"]}, "invalid_value", "events"),
        ({**HOOK, "secret": "whsec_eA=="}, "unknown_field", "secret"),
    ):
        answer = await client.post("/v1/webhooks", json=body)

        assert answer.status_code == 422, body
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json()["code"], answer.json()["param"]) == (code, param), body
    assert await count_rows(services.database, "webhooks") == 0


async def test_so_many_and_no_more(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, settings: Settings
) -> None:
    most = settings.webhooks.max_per_tenant
    answers = await asyncio.gather(
        *(client.post("/v1/webhooks", json=HOOK) for _ in range(most + 3))
    )

    assert sorted(answer.status_code for answer in answers) == [201] * most + [409] * 3
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "too_many_webhooks"
    await add(stranger)
    [first, *_] = (await client.get("/v1/webhooks")).json()["data"]
    await client.delete(f"/v1/webhooks/{first['id']}")
    await add(client)


async def test_removed_with_its_deliveries(client: httpx2.AsyncClient, services: Services) -> None:
    webhook = await add(client)
    await end_a_job(client)
    assert await count_rows(services.database, "deliveries") == 1

    answer = await client.delete(f"/v1/webhooks/{webhook['id']}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await count_rows(services.database, "deliveries") == 0
    assert (await client.delete(f"/v1/webhooks/{webhook['id']}")).status_code == 404


async def test_deliveries_page_by_page(client: httpx2.AsyncClient) -> None:
    webhook = await add(client)
    ended = [await end_a_job(client) for _ in range(3)]

    first = await deliveries(client, webhook, limit=2)
    second = await deliveries(client, webhook, limit=2, after=first["next"])

    assert [entry["job_id"] for entry in first["data"] + second["data"]] == ended[::-1]
    assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)
    assert {entry["state"] for entry in first["data"]} == {"pending"}
    assert (await deliveries(client, webhook, state="delivered"))["data"] == []
    assert len((await deliveries(client, webhook, state="pending"))["data"]) == 3


async def test_dead_letters_and_once_more(
    client: httpx2.AsyncClient, services: Services, courier: None
) -> None:
    webhook = await add(client)
    async with receiving(Receiver(answers=[500])) as receiver:
        await lead_to(services, receiver.address)
        job_id = await end_a_job(client)
        [dead] = await wait_for(client, webhook, "dead")
        assert (dead["job_id"], dead["seq"], dead["type"]) == (job_id, 2, "job.cancelled")
        assert (dead["attempts"], dead["last_status"]) == (2, 500)
        assert dead["last_error"] == "The receiver answered 500."
        assert (dead["next_at"], dead["delivered_at"]) == (None, None)
        assert dead["failed_at"]
        assert (await samples(client))["sfumato_webhook_deliveries", "dead"] == 1
        receiver.answers = [200]

        answer = await client.post(f"/v1/webhooks/deliveries/{dead['id']}/retry")

        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["attempts"]) == ("pending", 0)
        [delivered] = await wait_for(client, webhook, "delivered")
        assert delivered["id"] == dead["id"]
        receiver.verified(webhook["secret"])
        again = await client.post(f"/v1/webhooks/deliveries/{dead['id']}/retry")
        assert (again.status_code, again.json()["code"]) == (409, "delivery_not_dead")
        assert (await samples(client))["sfumato_webhook_deliveries", "dead"] == 0


async def test_nothing_is_tried_again_at_a_webhook_that_is_gone(
    client: httpx2.AsyncClient, services: Services, courier: None
) -> None:
    webhook = await add(client)
    async with receiving(Receiver(answers=[410])) as receiver:
        await lead_to(services, receiver.address)
        await end_a_job(client)
        [dead] = await wait_for(client, webhook, "dead")

    answer = await client.post(f"/v1/webhooks/deliveries/{dead['id']}/retry")

    assert (answer.status_code, answer.json()["code"]) == (409, "webhook_disabled")
    assert (await client.get(f"/v1/webhooks/{webhook['id']}")).json()["disabled_at"]


async def test_another_tenant_sees_nothing(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, services: Services
) -> None:
    webhook = await add(client)
    theirs = await add(stranger)
    await end_a_job(client)
    async with services.database.transaction() as session:
        await session.execute(text("UPDATE deliveries SET failed_at = now()"))
    [dead] = (await deliveries(client, webhook, state="dead"))["data"]

    answers = [
        await stranger.get(f"/v1/webhooks/{webhook['id']}"),
        await stranger.post(f"/v1/webhooks/{webhook['id']}/rotate"),
        await stranger.get(f"/v1/webhooks/{webhook['id']}/deliveries"),
        await stranger.delete(f"/v1/webhooks/{webhook['id']}"),
        await stranger.post(f"/v1/webhooks/deliveries/{dead['id']}/retry"),
    ]

    nothing = [
        await stranger.get(f"/v1/webhooks/{NOBODY}"),
        await stranger.post(f"/v1/webhooks/{NOBODY}/rotate"),
        await stranger.get(f"/v1/webhooks/{NOBODY}/deliveries"),
        await stranger.delete(f"/v1/webhooks/{NOBODY}"),
        await stranger.post(f"/v1/webhooks/deliveries/{NOBODY}/retry"),
    ]
    assert [answer.status_code for answer in answers + nothing] == [404] * 10
    assert [answer.json()["code"] for answer in answers] == [
        answer.json()["code"] for answer in nothing
    ]
    assert [hook["id"] for hook in (await stranger.get("/v1/webhooks")).json()["data"]] == [
        theirs["id"]
    ]
    assert (await deliveries(stranger, theirs))["data"] == []
    assert [hook["id"] for hook in (await client.get("/v1/webhooks")).json()["data"]] == [
        webhook["id"]
    ]
    assert len((await deliveries(client, webhook, state="dead"))["data"]) == 1


async def test_without_a_key(anonymous: httpx2.AsyncClient) -> None:
    for method, path in (
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks"),
        ("GET", f"/v1/webhooks/{NOBODY}"),
        ("DELETE", f"/v1/webhooks/{NOBODY}"),
        ("POST", f"/v1/webhooks/{NOBODY}/rotate"),
        ("GET", f"/v1/webhooks/{NOBODY}/deliveries"),
        ("POST", f"/v1/webhooks/deliveries/{NOBODY}/retry"),
    ):
        answer = await anonymous.request(method, path, json=HOOK)
        assert answer.status_code == 401, path
