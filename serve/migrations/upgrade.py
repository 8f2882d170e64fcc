"""Brings a database's schema to the newest version, and checks which version it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from serve.database import DatabaseUnavailable, open_engine, typed_errors
from serve.errors import ServiceError
from serve.settings import DatabaseSettings

_LOCK = 0x5F0A71  # of two processes that start at once only one migrates at a time
_OLDEST_POSTGRES = 18


class SchemaError(ServiceError):
    """The database is there, but this version cannot work with it; the message names the cure."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "schema"
    title: ClassVar[str] = "The database's schema"


async def upgrade(
    url: str, revision: str = "head", settings: DatabaseSettings | None = None
) -> None:
    """Apply every missing migration up to ``revision``.

    Each has a transaction of its own, so that its locks are released before the next one begins.

    Raises:
        DatabaseUnavailable: nobody answers at ``url``, or it does not let us in.
        SchemaError: the schema is of a version that is not known here, or the server too old.
    """
    async with _connected(url, settings) as connection:
        for step in await connection.run_sync(_steps, revision):
            await connection.run_sync(_apply, step)


async def check_schema(url: str, settings: DatabaseSettings | None = None) -> None:
    """Raise unless the schema is the newest.

    Raises:
        DatabaseUnavailable: nobody answers at ``url``, or it does not let us in.
        SchemaError: it is not, or the server is too old.
    """
    async with _connected(url, settings) as connection:
        await connection.run_sync(_check)


async def check_connection(url: str, settings: DatabaseSettings | None = None) -> None:
    """Raise unless a Postgres answers that is new enough.

    Raises:
        DatabaseUnavailable: nobody answers at ``url``, or it does not let us in.
        SchemaError: the server is too old.
    """
    async with _connected(url, settings):
        pass


def _steps(connection: Connection, revision: str) -> list[str]:
    """The revisions to apply, the oldest first."""
    scripts, current = _scripts_and_revision(connection)
    connection.rollback()  # the transaction that reading began
    missing = scripts.iterate_revisions(revision, current or "base")
    return [script.revision for script in missing][::-1]


def _apply(connection: Connection, step: str) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        command.upgrade(_config(connection), step)


def _check(connection: Connection) -> None:
    scripts, current = _scripts_and_revision(connection)
    newest = scripts.get_current_head()
    if current != newest:
        raise SchemaError(
            f"The database's schema is of version {current}, and {newest} is needed: run `sfumato"
            " migrate`."
            if current
            else "The database has no schema yet: run `sfumato migrate`."
        )


def _scripts_and_revision(connection: Connection) -> tuple[ScriptDirectory, str | None]:
    """The migrations, and the revision of the database's schema; None if it is empty."""
    scripts = ScriptDirectory.from_config(_config(connection))
    current = MigrationContext.configure(connection).get_current_revision()
    newest = scripts.get_current_head()
    if current is None and inspect(connection).has_table("jobs"):
        raise SchemaError(
            "The database has Sfumato's tables, but its table alembic_version does not say of"
            " which version: restore a backup, or, if you know the version, write it there (the"
            f" newest is {newest})."
        )
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise SchemaError(
            f"The database's schema is of version {current!r}, which this Sfumato does not know"
            f" (its newest is {newest}): a newer one made it. Start that one, or restore a backup"
            " from before it."
        )
    return scripts, current


@asynccontextmanager
async def _connected(
    url: str, settings: DatabaseSettings | None = None
) -> AsyncIterator[AsyncConnection]:
    """A connection to a Postgres that is new enough."""
    try:
        patient = (settings or DatabaseSettings()).unhurried
        connection = await open_engine(url, patient, poolclass=NullPool).connect()
    except (OSError, PostgresError, InterfaceError, SQLAlchemyError, ValueError) as error:
        place = url.rpartition("@")[2]  # without the password
        place = place.partition("://")[2] or place
        cause = getattr(error, "orig", None) or error
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        raise DatabaseUnavailable(
            f"Postgres at {place} cannot be used ({reason}): start `sfumato up`, or"
            " see that DATABASE_URL names the host, database, user and password of one that runs."
        ) from error
    try:
        with typed_errors():
            version = int(await connection.scalar(text("SHOW server_version_num")) or 0) // 10_000
            if version < _OLDEST_POSTGRES:
                raise SchemaError(
                    f"The database is Postgres {version}; Sfumato needs {_OLDEST_POSTGRES} or"
                    " newer: name such a server in DATABASE_URL."
                )
            yield connection
    finally:
        await connection.close()


def _config(connection: Connection) -> Config:
    config = Config()
    folder = str(Path(__file__).parent).replace("%", "%%")  # the parser expands a single %
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    return config
