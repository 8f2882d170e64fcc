"""The migrations and the models describe one schema."""

from __future__ import annotations

import asyncio
import uuid

from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine

from serve.migrations.upgrade import _config, pending_changes, upgrade
from tests.conftest import query


async def test_migrated_schema_equals_the_models(database_url: str) -> None:
    assert await pending_changes(database_url) == []


async def test_processes_that_start_at_once_migrate_once(postgres_url: str) -> None:
    name = f"test_{uuid.uuid4().hex}"
    query(postgres_url, f"CREATE DATABASE {name}")
    url = postgres_url.replace("@/sfumato?", f"@/{name}?")
    await asyncio.gather(*(upgrade(url) for _ in range(3)))

    assert await pending_changes(url) == []
    query(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_folding_the_words_can_be_taken_back(database_url: str) -> None:
    """Down and up again: the column is computed as it was, then filled as it is."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(_config(sync), "0011-1"))
    assert "GENERATED ALWAYS AS" in query(database_url, r"\d+ jobs").upper()
    await engine.dispose()
    await upgrade(database_url)
    assert await pending_changes(database_url) == []


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    await upgrade(database_url)
    assert await pending_changes(database_url) == []
