"""Brings a database's schema to the newest version."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from serve.database import open_engine, typed_errors
from serve.settings import DatabaseSettings

_LOCK = 0x5F0A71  # two processes that start at once must not both migrate


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


async def upgrade(
    url: str, revision: str = "head", settings: DatabaseSettings | None = None
) -> None:
    """Apply every migration up to ``revision``; nothing to do is fine.

    Raises:
        DatabaseUnavailable: when Postgres does not answer; nothing has changed.
    """
    settings = settings or DatabaseSettings()
    engine = open_engine(url, settings.unhurried, poolclass=NullPool)
    with typed_errors():
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), revision))


async def pending_changes(url: str) -> list[object]:
    """Differences between the models and the migrated schema; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from serve.models import Base

    engine = open_engine(url, DatabaseSettings().unhurried, poolclass=NullPool)
    async with engine.connect() as connection:
        return await connection.run_sync(
            lambda sync: list(compare_metadata(MigrationContext.configure(sync), Base.metadata))
        )
