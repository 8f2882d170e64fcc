"""Postgres behind one short file: a pooled engine, transactions, and the schema's version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, ClassVar

from asyncpg import InterfaceError as ConnectionGone
from asyncpg import PostgresConnectionError
from asyncpg.exceptions import CannotConnectNowError, TooManyConnectionsError
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry

from serve.errors import ServiceError

Session = AsyncSession

_ASK_AFTER_S = 10.0
"""Of rest, a connection is asked whether it lives before it is used again."""

_CONNECTION_ERRORS = (
    OSError,
    PostgresConnectionError,
    CannotConnectNowError,
    ConnectionGone,  # unwrapped where a connection ends before SQLAlchemy has set it up
    TooManyConnectionsError,
    PoolTimeout,
)


class DatabaseUnavailable(ServiceError):
    """Postgres did not answer; whatever the transaction did may or may not be committed."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "database_unavailable"
    title: ClassVar[str] = "The database does not answer"


def asyncpg_url(url: str) -> str:
    """The URL in SQLAlchemy's spelling for asyncpg, from the plain ``postgres://`` of platforms."""
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+asyncpg://" + url.removeprefix(scheme)
    return url


class Database:
    """A connection pool of one process."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.engine = create_async_engine(
            asyncpg_url(url),
            pool_size=pool_size,
            max_overflow=4,
            pool_use_lifo=True,  # those that are in use stay in use
            hide_parameters=True,  # of what an error tells: prompts are among them
        )
        _replace_lost_connections(self.engine)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed on leaving, or rolled back by an exception.

        Raises:
            DatabaseUnavailable: when Postgres does not answer.
        """
        try:
            async with self._sessions() as session, session.begin():
                yield session
        except DBAPIError as error:
            if not _is_connection_error(error):
                raise
            raise DatabaseUnavailable(f"Postgres does not answer: {error.orig}") from error
        except _CONNECTION_ERRORS as error:
            raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error

    async def ping(self) -> None:
        """Ask Postgres for anything.

        Raises:
            DatabaseUnavailable: when it does not answer.
        """
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


def _replace_lost_connections(engine: AsyncEngine) -> None:
    """See that nobody is handed a connection that is known to be lost.

    SQLAlchemy's own ``pool_pre_ping`` asks before every transaction, which takes three round trips.
    A connection that was used just now needs none: if Postgres has closed it, the driver knows.
    """
    dialect = engine.sync_engine.dialect

    def rest(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["resting_since"] = monotonic()

    def take(connection: Any, entry: ConnectionPoolEntry, _handle: Any) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        rested_s = monotonic() - entry.info.get("resting_since", monotonic())
        if rested_s > _ASK_AFTER_S:
            try:
                dialect.do_ping(connection)
            except dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error

    event.listen(engine.sync_engine, "checkin", rest)
    event.listen(engine.sync_engine, "checkout", take)


def _is_connection_error(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError | InterfaceError)
        or isinstance(error.orig and error.orig.__cause__, _CONNECTION_ERRORS)
    )
