"""A database that is away is told from a statement that is wrong."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from serve.database import Database, DatabaseUnavailable


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
        await database.ping()
    monkeypatch.undo()
    await database.ping()
    await database.close()
