"""The door of the events WebSocket: tickets, and whose pages may knock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from serve.access.tickets import Tickets
from serve.api.services import Services
from serve.observability.logging import configure_logging
from serve.settings import HttpSettings, Settings
from tests.serve.api.test_events import address, ending, say, submit, told

__all__ = ["address"]


async def ticket_of(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/v1/events/tickets")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["expires_in"] == 30
    ticket: str = answer.json()["ticket"]
    return ticket


async def test_a_ticket_opens_one_connection(address: str, client: httpx2.AsyncClient) -> None:
    ticket = await ticket_of(client)
    job_id = await submit(client)
    async with connect(f"{address}?ticket={ticket}") as events:
        await say(events, type="watch", job_id=job_id)
        assert (await told(events))["type"] == "job.queued"
    async with connect(f"{address}?ticket={ticket}") as again:
        assert (await told(again))["problem"]["code"] == "invalid_ticket"
        assert (await ending(again))[0] == 4401


async def test_of_many_at_once_a_ticket_lets_one_in(
    address: str, client: httpx2.AsyncClient
) -> None:
    ticket = await ticket_of(client)
    job_id = await submit(client)

    async def knock() -> str:
        async with connect(f"{address}?ticket={ticket}") as events:
            await say(events, type="watch", job_id=job_id)
            kind: str = (await told(events))["type"]
            return kind

    assert sorted(await asyncio.gather(*(knock() for _ in range(8)))) == ["error"] * 7 + [
        "job.queued"
    ]


@pytest.mark.parametrize("ticket", ["x", "%00", "x" * 500, "%F0%9F%8E%9F"])
async def test_made_up_tickets_open_nothing(address: str, ticket: str) -> None:
    async with connect(f"{address}?ticket={ticket}") as events:
        assert (await told(events))["problem"]["code"] == "invalid_ticket"
        assert (await ending(events))[0] == 4401


async def test_a_ticket_ages(
    address: str, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.access.tickets.TICKET_S", 1)
    ticket = await ticket_of(client)
    await asyncio.sleep(1.5)
    async with connect(f"{address}?ticket={ticket}") as events:
        assert (await ending(events))[0] == 4401


async def test_a_ticket_dies_with_its_key(
    address: str, client: httpx2.AsyncClient, services: Services
) -> None:
    ticket = await ticket_of(client)
    for kept in await services.keys.list("first"):
        await services.keys.revoke(kept.id)
    async with connect(f"{address}?ticket={ticket}") as events:
        assert (await ending(events))[0] == 4401


async def test_no_ticket_without_a_key(anonymous: httpx2.AsyncClient) -> None:
    assert (await anonymous.post("/v1/events/tickets")).status_code == 401


async def test_without_redis_the_answer_names_the_cure(
    address: str, app: FastAPI, client: httpx2.AsyncClient, services: Services, key: str
) -> None:
    app.state.provided[Tickets] = Tickets("redis://127.0.0.1:1")
    answer = await client.post("/v1/events/tickets")
    assert (answer.status_code, answer.json()["code"]) == (503, "tickets_unavailable")
    assert "first message" in answer.json()["detail"]
    async with connect(f"{address}?ticket=abc") as events:
        assert (await told(events))["problem"]["code"] == "tickets_unavailable"
        assert (await ending(events))[0] == 1013
    async with connect(address) as events:
        await say(events, type="authenticate", key=key)
        assert await told(events) == {"type": "authenticated"}
    app.state.provided[Tickets] = services.tickets


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("_logging_restored")
async def test_no_log_line_holds_a_ticket(
    address: str, client: httpx2.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json", level=logging.INFO)
    ticket = await ticket_of(client)
    for _ in range(2):
        async with connect(f"{address}?ticket={ticket}") as events:
            await say(events, type="dance")
            await told(events)
    logging.getLogger("uvicorn.error").warning("the log is read")
    out, err = capfd.readouterr()
    assert "the log is read" in err
    assert ticket not in out + err


@pytest.fixture
def open_to_gallery(app: FastAPI, services: Services) -> None:
    http = HttpSettings(allowed_origins=("https://gallery.example",))
    settings = services.settings.model_copy(update={"http": http})
    app.state.provided[Settings] = settings


@pytest.mark.usefixtures("open_to_gallery")
@pytest.mark.parametrize(
    ("origin", "welcome"),
    [
        ("https://gallery.example", True),
        ("https://GALLERY.example", True),
        ("http://gallery.example", False),
        ("https://gallery.example:8443", False),
        ("https://gallery.example.evil.example", False),
        ("null", False),
        ("", False),
        ("{own}", True),
        ("{own}1", False),
    ],
)
async def test_pages_of_other_origins_stay_outside(
    address: str, key: str, origin: str, welcome: bool
) -> None:
    own = address.replace("ws:", "http:").removesuffix("/v1/events")
    headers = {"X-API-Key": key, "Origin": origin.format(own=own)}
    if welcome:
        async with connect(address, additional_headers=headers) as events:
            await say(events, type="dance")
            assert (await told(events))["problem"]["code"] == "invalid_message"
    else:
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, additional_headers=headers)
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "origin", ["gallery.example", "ftp://a.example", "https://a.example/", "*", "https://u@a.b"]
)
def test_what_is_no_origin_is_no_setting(origin: str) -> None:
    with pytest.raises(ValueError, match=r"like `https://app\.example"):
        HttpSettings(allowed_origins=(origin,))
