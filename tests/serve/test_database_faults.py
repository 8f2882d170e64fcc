"""Postgres behind a proxy that freezes and resets connections, and Postgres that refuses."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from loadtests.chaos.proxy import FaultProxy, unix_socket
from serve.database import Database, DatabaseUnavailable
from serve.settings import DatabaseSettings
from tests.conftest import query
from tests.serve.test_database import ping

QUICK = DatabaseSettings(
    connect_timeout_s=2, command_timeout_s=1, statement_timeout_s=0.5, idle_timeout_s=1
)
WITHIN_S = 10.0
"""By the default time-outs: six seconds for the answer, two to close what is frozen."""


@asynccontextmanager
async def behind_proxy(
    database_url: str, settings: DatabaseSettings = QUICK
) -> AsyncIterator[tuple[FaultProxy, Database]]:
    """A proxy before Postgres, and the database as it is seen through it."""
    folder = Path(parse_qs(urlsplit(database_url).query)["host"][0])
    proxy = FaultProxy(unix_socket(folder / ".s.PGSQL.5432"), postgres=True)
    name = urlsplit(database_url).path.removeprefix("/")
    url = f"postgres://sfumato@127.0.0.1:{await proxy.start()}/{name}?sslmode=disable"
    database = Database(url, settings)
    yield proxy, database
    proxy.reset()
    await database.close()
    await proxy.close()


async def use_all(database: Database, count: int = 12) -> list[BaseException | None]:
    """So many transactions at once; what each raised."""

    async def use() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))

    return await asyncio.gather(*(use() for _ in range(count)), return_exceptions=True)


async def test_a_pool_whose_connections_all_freeze_works_again_within_the_stated_bound(
    database_url: str,
) -> None:
    async with behind_proxy(database_url, DatabaseSettings()) as (proxy, database):
        assert await use_all(database) == [None] * 12
        assert proxy.freeze() == 8  # what the pool keeps
        began = monotonic()
        failed = [error for error in await use_all(database) if error is not None]
        assert failed
        assert all(isinstance(error, DatabaseUnavailable) for error in failed)
        assert await use_all(database) == [None] * 12
        assert monotonic() - began < WITHIN_S


async def test_what_waits_for_the_pool_meanwhile_gets_a_new_connection(database_url: str) -> None:
    async with behind_proxy(database_url) as (proxy, database):
        await use_all(database)
        proxy.freeze()
        async with asyncio.timeout(WITHIN_S):
            errors = await use_all(database, 40)
        assert sum(error is None for error in errors) >= 40 - 12


async def test_a_frozen_connection_that_rested_costs_nobody_an_error(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_proxy(database_url) as (proxy, database):
        await use_all(database)
        proxy.freeze()
        monkeypatch.setattr("serve.database._ASK_AFTER_S", -1.0)
        assert await use_all(database, 3) == [None] * 3


async def test_whoever_leaves_a_frozen_statement_is_not_held_up(database_url: str) -> None:
    async with behind_proxy(database_url, DatabaseSettings()) as (proxy, database):
        await use_all(database)
        proxy.freeze()
        asked = asyncio.create_task(use_all(database, 1))
        await asyncio.sleep(0.1)
        began = monotonic()
        asked.cancel()
        await asyncio.wait({asked})
        assert monotonic() - began < 4


async def test_reset_connections_are_replaced(database_url: str) -> None:
    async with behind_proxy(database_url) as (proxy, database):
        await use_all(database)
        assert proxy.reset() == 8
        await asyncio.sleep(0.1)
        assert await use_all(database) == [None] * 12


async def test_locks_of_a_frozen_transaction_end_with_postgres_own_patience(
    database_url: str,
) -> None:
    """Its end is not heard of; what it has locked, others wait for."""
    async with behind_proxy(database_url) as (proxy, database):
        query(database_url, "CREATE TABLE note (said text)", "INSERT INTO note VALUES ('old')")
        change = "UPDATE note SET said = said || '.'"
        with pytest.raises(DatabaseUnavailable):
            await transact(database, change, proxy.freeze, change)
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    await transact(database, change)
                    break
                except DatabaseUnavailable:
                    await asyncio.sleep(0.1)
        assert query(database_url, "SELECT said FROM note") == "old."


async def test_a_long_statement_is_unavailability_and_keeps_its_connection(
    database_url: str,
) -> None:
    database = Database(database_url, QUICK, pool_size=1)
    before = await backend(database)
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        await transact(database, "SELECT pg_sleep(10)")
    assert await backend(database) == before
    await database.close()


async def test_the_unhurried_may_take_their_time(database_url: str) -> None:
    database = Database(database_url, QUICK.unhurried, pool_size=1)
    await transact(database, "SELECT pg_sleep(1.2)", partial(asyncio.sleep, 1.2), "SELECT 1")
    await database.close()


async def test_a_transaction_that_stands_still_is_ended(database_url: str) -> None:
    database = Database(database_url, QUICK, pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        await transact(database, "SELECT 1", partial(asyncio.sleep, 1.5), "SELECT 1")
    await ping(database)
    await database.close()


async def test_a_read_only_primary_is_unavailable_until_it_takes_writes(database_url: str) -> None:
    database = Database(database_url, QUICK)
    name = urlsplit(database_url).path.removeprefix("/")
    query(database_url, "CREATE TABLE note (said text)")
    query(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await write(database)
    query(
        database_url,
        "BEGIN; SET TRANSACTION READ WRITE;"
        f" ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT",
    )
    await write(database)  # though a session that began meanwhile would stay read-only for good
    await database.close()


async def test_a_deadlock_may_be_tried_again(database_url: str) -> None:
    database = Database(database_url)
    query(database_url, "CREATE TABLE pair (id int)", "INSERT INTO pair VALUES (1), (2)")
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as session:
            take = text("SELECT * FROM pair WHERE id = :id FOR UPDATE")
            await session.execute(take, {"id": first})
            await both.wait()
            await session.execute(take, {"id": second})

    errors = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    (failed,) = [error for error in errors if error is not None]
    assert isinstance(failed, DatabaseUnavailable)
    assert "deadlock" in str(failed)
    await database.close()


async def test_a_serialisation_failure_may_be_tried_again(database_url: str) -> None:
    database = Database(database_url)
    query(database_url, "CREATE TABLE note (said int)", "INSERT INTO note VALUES (1)")
    with pytest.raises(DatabaseUnavailable, match="serialize"):
        await transact(
            database,
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SELECT * FROM note",
            partial(query, database_url, "UPDATE note SET said = 2"),
            "UPDATE note SET said = 3",
        )
    await database.close()


async def test_too_many_connections_are_unavailability(database_url: str) -> None:
    role = f"few_{urlsplit(database_url).path[-8:]}"
    query(database_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    database = Database(database_url.replace("sfumato@", f"{role}@"), QUICK)
    try:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))
            with pytest.raises(DatabaseUnavailable, match="too many connections"):
                await ping(database)
    finally:
        await database.close()
        query(database_url, f"DROP ROLE {role}")


async def test_a_server_that_takes_connections_and_says_nothing_is_unavailability() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgres://u@127.0.0.1:{silent.getsockname()[1]}/db", QUICK)
        with pytest.raises(DatabaseUnavailable):
            await ping(database)
        await database.close()


async def test_what_no_repetition_cures_is_raised_as_it_is(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    query(database_url, "CREATE TABLE note (said int PRIMARY KEY)", "INSERT INTO note VALUES (1)")
    with pytest.raises(IntegrityError):
        await write(database)
    with pytest.raises(DBAPIError, match="out of int32 range"):  # the driver's own refusal
        async with database.transaction() as session:
            await session.execute(text("SELECT CAST(:number AS int)"), {"number": 2**40})
    with pytest.raises(DBAPIError, match="does not exist"):
        await transact(database, "SELECT * FROM nowhere")
    await database.close()


async def test_the_kernel_watches_over_tcp_connections(database_url: str) -> None:
    async with behind_proxy(database_url) as (_, database), database.engine.connect() as opened:
        driver: Any = (await opened.get_raw_connection()).driver_connection
        peer = driver._transport.get_extra_info("socket")
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


async def transact(database: Database, *steps: str | Callable[[], Any]) -> None:
    """One transaction of these statements, and of what happens between them."""
    async with database.transaction() as session:
        for step in steps:
            if isinstance(step, str):
                await session.execute(text(step))
            elif inspect.isawaitable(result := step()):
                await result


async def backend(database: Database) -> int:
    async with database.transaction() as session:
        pid: int = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
        return pid


async def write(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO note VALUES (1)"))
