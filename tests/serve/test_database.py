"""A database that is away is told from a statement that is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from serve.database import Database, DatabaseUnavailable
from tests.conftest import query


async def test_a_connection_that_ends_before_it_is_set_up_is_unavailability(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset may arrive when the driver has connected and SQLAlchemy has not gone on."""
    connect = asyncpg.connect

    async def connect_and_lose(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        connection.terminate()
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect_and_lose)
    database = Database(database_url, pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        await ping(database)
    monkeypatch.undo()
    await ping(database)
    await database.close()


async def test_connections_that_postgres_has_closed_are_replaced(database_url: str) -> None:
    database = Database(database_url)
    await use_two_connections(database)
    close_connections(database_url)
    await asyncio.sleep(0.1)  # the driver hears of it
    await use_two_connections(database)
    await database.close()


async def test_a_connection_that_rested_is_asked_whether_it_lives(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    await use_two_connections(database)
    close_connections(database_url)  # the loop stands still meanwhile: the driver can't know
    monkeypatch.setattr("serve.database._ASK_AFTER_S", -1.0)
    await use_two_connections(database)
    await database.close()


async def test_a_transaction_on_a_warm_connection_asks_nothing_besides(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url, pool_size=1)
    asked: list[str] = []
    execute = asyncpg.Connection.execute

    async def told(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        asked.append(query)
        return await execute(self, query, *arguments, **options)

    await ping(database)
    monkeypatch.setattr(asyncpg.Connection, "execute", told)
    await ping(database)
    assert [query.rstrip(";") for query in asked] == ["BEGIN", "COMMIT"]
    await database.close()


async def ping(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("SELECT 1"))


async def use_two_connections(database: Database) -> None:
    async with database.transaction() as one, database.transaction() as other:
        await one.execute(text("SELECT 1"))
        await other.execute(text("SELECT 1"))


def close_connections(database_url: str) -> None:
    query(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
