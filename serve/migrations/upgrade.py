"""Brings a database's schema to the newest version."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from serve.database import asyncpg_url

_LOCK = 0x5F0A71  # two processes that start at once must not both migrate


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


async def upgrade(url: str, revision: str = "head") -> None:
    """Apply every migration up to ``revision``, each in a transaction of its own.

    Nothing to do is fine. What a migration locks is free again before the next one begins.
    """
    engine = create_async_engine(asyncpg_url(url))
    try:
        async with engine.connect() as connection:
            for step in await connection.run_sync(_steps, revision):
                await connection.run_sync(_take, step)
    finally:
        await engine.dispose()


def _steps(connection: Connection, revision: str) -> list[str]:
    """The revisions that are to be applied, the oldest first."""
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()  # what looking began
    scripts = ScriptDirectory.from_config(_config(connection))
    found = scripts.iterate_revisions(revision, current or "base")
    return [each.revision for each in found][::-1]


def _take(connection: Connection, step: str) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        command.upgrade(_config(connection), step)


async def pending_changes(url: str) -> list[object]:
    """Differences between the models and the migrated schema; empty when they agree."""
    from alembic.autogenerate import compare_metadata

    from serve.models import Base

    engine = create_async_engine(asyncpg_url(url))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda sync: list(compare_metadata(MigrationContext.configure(sync), Base.metadata))
            )
    finally:
        await engine.dispose()
