"""A tenant's webhooks, a receiver of them, and couriers that one can kill."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from serve.database import Database
from serve.events.event import EventType
from serve.settings import WebhookSettings
from serve.tables import Webhook
from serve.webhooks.courier import Courier
from serve.webhooks.signature import spell
from serve.webhooks.subscriptions import Webhooks
from tests.serve.conftest import bus, claims, database, jobs, reaper, settings, tenant_id
from tests.serve.webhooks.receiver import Receiver, receiving

__all__ = ["bus", "claims", "database", "jobs", "reaper", "settings", "tenant_id"]

TERMINAL = [event for event in EventType if event.terminal]
Run = Callable[..., AbstractAsyncContextManager[Courier]]


def hasty(**changes: object) -> WebhookSettings:
    """Short delays, and receivers on loopback; ``changes`` replace fields."""
    fields: dict[str, object] = {
        "allow_private": True,
        "first_delay_s": 0.01,
        "poll_s": 0.05,
        "timeout_s": 5,
        "attempts": 4,
    }
    return WebhookSettings(**{**fields, **changes})


@pytest.fixture
def webhooks(database: Database) -> Webhooks:
    return Webhooks(database, hasty())


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(Receiver()) as receiver:
        yield receiver


@pytest.fixture
async def webhook(webhooks: Webhooks, tenant_id: UUID, receiver: Receiver) -> Webhook:
    """The tenant's, at the receiver, for what ends a job."""
    return await webhooks.create(tenant_id, f"{receiver.address}/hook?a=1", TERMINAL)


@pytest.fixture
def secret(webhook: Webhook) -> str:
    return spell(webhook.secret)


@pytest.fixture
def courier(database: Database) -> Run:
    """``async with courier(**changes):`` runs one; leaving kills it wherever it is."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and is quickly made

    @asynccontextmanager
    async def run(**changes: object) -> AsyncIterator[Courier]:
        courier = Courier(database, hasty(**changes), tls)
        running = asyncio.create_task(courier.run())
        try:
            yield courier
            assert not running.done(), running.result()
        finally:
            running.cancel()
            await asyncio.wait({running})  # whoever is cancelled meanwhile hears of it

    return run


async def rows(database: Database, query: str, **values: object) -> list[Any]:
    async with database.transaction() as session:
        return list(await session.execute(text(query), values))


async def states(database: Database) -> list[tuple[str, int, int | None, str | None]]:
    """Of each delivery, oldest first: state, attempts, last status and error."""
    query = """
        SELECT CASE WHEN delivered_at IS NOT NULL THEN 'delivered'
                    WHEN failed_at IS NOT NULL THEN 'dead' ELSE 'pending' END,
               attempts, last_status, last_error
        FROM deliveries ORDER BY id"""
    return [tuple(row) for row in await rows(database, query)]


async def settled(database: Database, *expected: str, seconds: float = 20) -> None:
    """Wait until the deliveries are in these states."""
    async with asyncio.timeout(seconds):
        while [state for state, *_ in await states(database)] != list(expected):
            await asyncio.sleep(0.02)
