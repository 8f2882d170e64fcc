"""Postgres behind one short file: a pooled engine, transactions, and the schema's version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from asyncpg import InterfaceError as ConnectionGone
from asyncpg import PostgresConnectionError
from asyncpg.exceptions import CannotConnectNowError, TooManyConnectionsError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from serve.errors import ServiceError

Session = AsyncSession

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
            pool_pre_ping=True,
            hide_parameters=True,  # of what an error tells: prompts are among them
        )
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


def _is_connection_error(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError | InterfaceError)
        or isinstance(error.orig and error.orig.__cause__, _CONNECTION_ERRORS)
    )
