"""Postgres: how to connect, how long to wait, and which errors are temporary."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, ClassVar, cast

from asyncpg import InterfaceError, PostgresError
from sqlalchemy import event
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from serve.database_url import DatabaseUrl
from serve.errors import ServiceError
from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import DATABASE_CONNECTIONS, DATABASE_WAIT
from serve.settings import DatabaseSettings

Session = AsyncSession

_ASK_AFTER_S = 10.0
"""A connection that was unused for longer is tested before it is used again."""
_ANSWER_S = 2.0
"""Longest wait for the test's answer."""
_POOL_TIMEOUT_S = 10.0
"""Longest wait for one of the pool's connections: more than a frozen one takes to be given up."""
_KEEPALIVE = {
    "keepalives_idle": ("TCP_KEEPIDLE", 5),
    "keepalives_interval": ("TCP_KEEPINTVL", 2),
    "keepalives_count": ("TCP_KEEPCNT", 3),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT", 10_000),
}
"""By libpq's name: the socket's option, which some systems lack, and our value in seconds.

The last is the milliseconds that sent data may stay unacknowledged. A host that vanishes is noticed
within eleven seconds.
"""
_READ_ONLY = "25006"
_RETRYABLE = frozenset(
    {
        _READ_ONLY,  # a primary that became a standby, or was set to refuse writes
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "40001",  # serialization_failure
        "40003",  # statement_completion_unknown
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57014",  # query_canceled: statement_timeout
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
    }
)
_RETRYABLE_CLASSES = ("08", "53", "58")
"""Errors of connections; of resources that are exhausted; of the system that Postgres runs on."""


class DatabaseUnavailable(ServiceError):
    """Postgres did not answer, or refused for now; a later try may succeed.

    The transaction may or may not be committed.
    """

    status: ClassVar[int] = 503
    code: ClassVar[str] = "database_unavailable"
    title: ClassVar[str] = "The database does not answer"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=2)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Raises temporary errors as DatabaseUnavailable, and all others as they are."""
    try:
        yield
    except (DBAPIError, PostgresError, InterfaceError, PoolTimeout, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        if not _is_retryable(error, cause):
            raise
        reason = str(cause).partition("\n")[0] or "no answer in time"
        raise DatabaseUnavailable(f"Postgres does not answer: {reason}") from error


def _is_retryable(error: BaseException, cause: BaseException) -> bool:
    """Whether an error is temporary; ``cause`` is what the driver raised."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if (state := getattr(cause, "sqlstate", None)) is not None:
        return state in _RETRYABLE or str(state).startswith(_RETRYABLE_CLASSES)
    for driver in (cause.__cause__, cause):  # a time-out's own cause is a cancellation
        if isinstance(driver, InterfaceError):  # its connection is gone, or an argument impossible
            return not isinstance(driver, ValueError)
        if isinstance(driver, PoolTimeout | OSError):
            return True
    return False


def open_engine(url: str, settings: DatabaseSettings, **pool: Any) -> AsyncEngine:
    """Connections under the one policy; ``pool`` is SQLAlchemy's.

    Raises:
        ValueError: a parameter of the URL cannot be honoured.
    """
    address = DatabaseUrl.parse(url)
    numbers = address.numbers
    timeouts_s = {
        "statement_timeout": settings.statement_timeout_s,
        "idle_in_transaction_session_timeout": settings.idle_timeout_s,
    }
    arguments: dict[str, Any] = {
        "dsn": address.dsn,
        "timeout": numbers.get("connect_timeout") or settings.connect_timeout_s,
        "command_timeout": settings.command_timeout_s,
        "server_settings": {
            name: str(int(seconds * 1000))
            for name, seconds in timeouts_s.items()
            if seconds and name not in address.options
        },
        **{name: number for name, number in numbers.items() if name.endswith("_cache_size")},
    }
    if address.verified_by_system:
        arguments["ssl"] = ssl.create_default_context()
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=arguments,
        hide_parameters=True,  # in messages of errors: prompts are among them
        **pool,
    )
    _keep_alive(engine, numbers)
    _replace_lost_connections(engine)
    return engine


class Database:
    """A connection pool of one process."""

    def __init__(
        self,
        url: str,
        settings: DatabaseSettings | None = None,
        *,
        pool_size: int = 8,
        meter: Meter = UNMETERED,
    ) -> None:
        """Nothing is connected yet.

        Raises:
            ValueError: a parameter of the URL cannot be honoured.
        """
        self.engine = open_engine(
            url,
            settings or DatabaseSettings(),
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=_POOL_TIMEOUT_S,
            pool_use_lifo=True,  # those that are in use stay in use
        )
        self._meter = meter
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed on leaving, or rolled back by an exception.

        Raises:
            DatabaseUnavailable: when Postgres does not answer, or not now; see `typed_errors`.
        """
        with typed_errors():
            async with self._sessions() as session, session.begin():
                asked_at = monotonic()
                await session.connection()
                self._meter.observe(DATABASE_WAIT, monotonic() - asked_at)
                yield session

    def sample(self) -> None:
        """Tell the meter how many connections there are now."""
        pool = cast(QueuePool, self.engine.sync_engine.pool)
        self._meter.set(DATABASE_CONNECTIONS, pool.checkedout(), state="used")
        self._meter.set(DATABASE_CONNECTIONS, pool.checkedin(), state="idle")

    async def close(self) -> None:
        await self.engine.dispose()


def _keep_alive(engine: AsyncEngine, numbers: Mapping[str, int]) -> None:
    """Have the kernel notice a peer that is gone, also while the connection is idle.

    ``numbers`` are the URL's, and override ours.
    """

    def connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        transport = connection.driver_connection._transport
        peer = transport.get_extra_info("socket")
        if peer.family not in (socket.AF_INET, socket.AF_INET6) or not numbers.get("keepalives", 1):
            return
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, (option, value) in _KEEPALIVE.items():
            if hasattr(socket, option):
                number = numbers.get(name, value)
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), number)

    event.listen(engine.sync_engine, "connect", connected)


def _replace_lost_connections(engine: AsyncEngine) -> None:
    """Have the pool replace connections that are known to be lost.

    SQLAlchemy's own ``pool_pre_ping`` tests before every transaction, which takes three round
    trips. A connection that was used just now needs no test: if Postgres has closed it, the driver
    knows. A connection that is frozen is given up at the first answer that does not come, together
    with all that were opened before: what froze one has mostly frozen them all.
    """

    def rest(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["resting_since"] = monotonic()

    def take(connection: Any, entry: ConnectionPoolEntry, _handle: Any) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        rested_s = monotonic() - entry.info.get("resting_since", monotonic())
        if rested_s > _ASK_AFTER_S:
            try:
                connection.run_async(lambda driver: driver.execute("SELECT 1", timeout=_ANSWER_S))
            except (PostgresError, InterfaceError, OSError) as error:
                raise InvalidatePoolError from error

    def give_up(context: ExceptionContext) -> None:
        cause = context.original_exception
        # A server that takes no writes now may no longer be the primary.
        if isinstance(cause, TimeoutError) or getattr(cause, "sqlstate", "") == _READ_ONLY:
            context.is_disconnect = True

    event.listen(engine.sync_engine, "checkin", rest)
    event.listen(engine.sync_engine, "checkout", take)
    event.listen(engine.sync_engine, "handle_error", give_up)
