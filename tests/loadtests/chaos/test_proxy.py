"""The proxy's faults, on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from loadtests.chaos.postgres_wire import FrontendMessages
from loadtests.chaos.proxy import FaultProxy, tcp_port, unix_socket
from serve.database import Database, DatabaseUnavailable


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[FaultProxy]:
    folder = Path(parse_qs(urlsplit(database_url).query)["host"][0])
    proxy = FaultProxy(unix_socket(folder / ".s.PGSQL.5432"), postgres=True)
    yield proxy
    await proxy.close()


@pytest.fixture
async def database(proxy: FaultProxy, database_url: str) -> AsyncIterator[Database]:
    name = urlsplit(database_url).path.removeprefix("/")
    url = f"postgresql://sfumato@127.0.0.1:{await proxy.start()}/{name}?ssl=disable"
    database = Database(url)
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE note (said text)"))
    yield database
    await database.close()


async def write(database: Database, said: str) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO note VALUES (:said)"), {"said": said})


async def notes(database: Database) -> list[str]:
    async with database.transaction() as session:
        return list(await session.scalars(text("SELECT said FROM note ORDER BY said")))


async def test_a_dropped_commit_took_place(proxy: FaultProxy, database: Database) -> None:
    proxy.drop_commits = 1
    with pytest.raises(DatabaseUnavailable):
        await write(database, "once")
    assert await notes(database) == ["once"]
    assert (proxy.drop_commits, proxy.commits_dropped) == (0, 1)


async def test_a_reset_ends_a_transaction(proxy: FaultProxy, database: Database) -> None:
    async def write_over_a_reset() -> None:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO note VALUES ('lost')"))
            assert proxy.reset() >= 1
            await session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await write_over_a_reset()
    assert await notes(database) == []


async def test_latency_is_added_both_ways(proxy: FaultProxy, database: Database) -> None:
    proxy.delay_s = 0.2
    began = monotonic()
    await notes(database)
    assert monotonic() - began >= 0.4


async def test_a_stall_passes_nothing_and_loses_nothing(
    proxy: FaultProxy, database: Database
) -> None:
    proxy.stall()
    writing = asyncio.create_task(write(database, "late"))
    await asyncio.sleep(0.2)
    assert not writing.done()
    proxy.resume()
    await writing
    assert await notes(database) == ["late"]


async def test_a_connection_is_cut_after_so_many_bytes() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.write(b" world")
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = FaultProxy(tcp_port(server.sockets[0].getsockname()[1]))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
        assert await reader.readexactly(5) == b"hello"
        assert proxy.cut_after(3) == 1
        assert await reader.read() == b" wo"
        writer.close()
    finally:
        await proxy.close()
        server.close()


@pytest.mark.parametrize("answered", ["a start", "a query"])
async def test_a_connection_that_ends_at_any_byte_is_unavailability(
    proxy: FaultProxy, database_url: str, answered: str
) -> None:
    """Whatever the driver makes of it, the service must know it as a database that is away."""
    name = urlsplit(database_url).path.removeprefix("/")
    url = f"postgresql://sfumato@127.0.0.1:{await proxy.start()}/{name}?ssl=disable"
    cut = 0
    for count in range(1, 800, 17) if answered == "a start" else range(400, 3000, 60):
        proxy.new_end_after = count
        database = Database(url, pool_size=1)
        try:
            async with database.transaction() as session:
                await session.execute(text("SELECT repeat('x', 2000)"))
        except DatabaseUnavailable:
            cut += 1
        finally:
            await database.close()
    assert cut >= 20


async def test_a_server_that_is_down_is_a_closed_door(tmp_path: Path) -> None:
    proxy = FaultProxy(unix_socket(tmp_path / "none"))
    reader, writer = await asyncio.open_connection("127.0.0.1", await proxy.start())
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    await proxy.close()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_commit_is_seen_however_the_stream_is_cut(size: int) -> None:
    stream = (
        b"\0\0\0\x08\x04\xd2\x16\x2f"  # asks for TLS
        b"\0\0\0\x09\0\x03\0\0\0"  # start-up, protocol 3.0
        b"P\0\0\0\x0fCOMMIT;\0\0\0\0"  # a prepared one is none
        b"Q\0\0\0\x0bBEGIN;\0"
        b"Q\0\0\0\x0cCOMMIT;\0"
    )
    messages = FrontendMessages()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [messages.commits(chunk) for chunk in chunks].count(True) == 1
    assert messages.commits(b"Q\0\0\0\x0cCOMMIT;\0")


async def test_open_connections_freeze_and_new_ones_work(
    proxy: FaultProxy, database: Database
) -> None:
    assert proxy.freeze() == 1
    writing = asyncio.create_task(write(database, "never"))
    await asyncio.sleep(0.2)
    assert not writing.done()
    await write(database, "new")
    assert await notes(database) == ["new"]
    proxy.reset()
    with pytest.raises(DatabaseUnavailable):
        await writing
