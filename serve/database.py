"""Postgres behind one short file: a pooled engine, and transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

Session = AsyncSession


class DatabaseUnavailable(Exception):
    """Postgres did not answer; check DATABASE_URL and that the server runs."""


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
            asyncpg_url(url), pool_size=pool_size, max_overflow=4, pool_pre_ping=True
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed on leaving, or rolled back by an exception."""
        async with self._sessions() as session, session.begin():
            yield session

    async def ping(self) -> None:
        """Ask Postgres for anything.

        Raises:
            DatabaseUnavailable: when it does not answer.
        """
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (DBAPIError, OSError) as error:
            raise DatabaseUnavailable(f"Postgres does not answer: {error}") from error

    async def close(self) -> None:
        await self.engine.dispose()
