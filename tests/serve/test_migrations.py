"""The migrations and the models describe one schema."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from serve.database import DatabaseUnavailable
from serve.migrations import upgrade as upgrading
from serve.migrations.upgrade import (
    SchemaError,
    _config,
    check_connection,
    check_schema,
    upgrade,
)
from serve.tables import Base
from tests.conftest import query


async def pending_changes(url: str) -> list[object]:
    """Differences between the models and the migrated schema; empty when they agree."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: list(compare_metadata(MigrationContext.configure(sync), Base.metadata))
        )
    await engine.dispose()
    return found


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
        await connection.run_sync(lambda sync: command.downgrade(_config(sync), "0010-1"))
    assert "GENERATED ALWAYS AS" in query(database_url, r"\d+ jobs").upper()
    await engine.dispose()
    await upgrade(database_url)
    assert await pending_changes(database_url) == []


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    await upgrade(database_url)
    assert await pending_changes(database_url) == []


async def test_a_schema_of_a_newer_version_is_left_alone(database_url: str) -> None:
    query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    for look in (upgrade, check_schema):
        with pytest.raises(SchemaError, match=r"'9999', which .* does not know .* Start that"):
            await look(database_url)
    assert query(database_url, "SELECT version_num FROM alembic_version") == "9999"


@pytest.mark.parametrize("lost", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
async def test_a_schema_without_a_version_is_left_alone(database_url: str, lost: str) -> None:
    query(database_url, lost)
    with pytest.raises(SchemaError, match="does not say of which version: restore a backup"):
        await upgrade(database_url)
    assert query(database_url, "SELECT to_regclass('jobs') IS NOT NULL") == "t"


async def test_an_older_schema_is_told_and_brought_up(database_url: str) -> None:
    query(database_url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    with pytest.raises(SchemaError, match="no schema yet: run `sfumato migrate`"):
        await check_schema(database_url)
    await upgrade(database_url, "0003")
    with pytest.raises(SchemaError, match=r"of version 0003, and .* run `sfumato migrate`"):
        await check_schema(database_url)
    await upgrade(database_url)
    await check_schema(database_url)


async def test_an_older_postgres_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "_OLDEST_POSTGRES", 99)
    with pytest.raises(SchemaError, match=r"is Postgres \d+; Sfumato needs 99 or newer"):
        await check_connection(database_url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "postgresql://nobody:open-sesame@127.0.0.1:1/x",
            "Postgres at 127.0.0.1:1/x cannot be used",
        ),
        (
            "postgresql://nobody:open-sesame@no.such.invalid/x",
            "at no.such.invalid/x cannot be used",
        ),
    ],
)
async def test_a_postgres_that_is_not_there_is_told_without_its_password(
    url: str, said: str
) -> None:
    with pytest.raises(DatabaseUnavailable, match=said) as wrong:
        await upgrade(url)
    assert "sesame" not in str(wrong.value)


async def test_a_database_that_is_not_there_is_told(database_url: str) -> None:
    name = database_url.partition("@/")[2].partition("?")[0]
    with pytest.raises(DatabaseUnavailable, match='database "lost" does not exist'):
        await check_connection(database_url.replace(f"@/{name}?", "@/lost?"))
