"""The sampler, on a real Postgres and a real Valkey below this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from loadtests.chaos.snapshot import connect
from loadtests.soak.family import POSTGRES, postgres_sockets
from loadtests.soak.sampler import Sampler, Samples, connections, usage_of


@pytest.fixture
def sockets(postgres_url: str) -> str:
    """The folder of Postgres' sockets."""
    found = postgres_sockets(os.getpid())
    assert found is not None
    assert (Path(found) / ".s.PGSQL.5432").exists()
    assert found in postgres_url
    return found


async def _sample() -> Samples:
    return await Sampler(os.getpid()).run(0.5, 0.1)


@pytest.mark.usefixtures("sockets", "valkey_url")
async def test_each_process_has_a_row_and_postgres_one_in_all() -> None:
    samples = await _sample()
    rows = {series.name: series for series in samples.series}
    assert {"up", POSTGRES, "valkey"} <= set(rows)
    assert all(usage.memory > 100_000 for usage in rows[POSTGRES].usage)
    assert len(rows["up"].seconds) == len(samples.connections) >= 2
    assert rows["up"].seconds[-1] == samples.last_at


async def test_connections_are_those_of_others(sockets: str) -> None:
    before = await connections(sockets)
    clients = [await connect(Path(sockets)) for _ in range(10)]
    # Backends of earlier tests may end meanwhile.
    assert before + 5 < await connections(sockets) <= before + 10
    for client in clients:
        await client.close()


async def test_shared_buffers_are_not_memory_of_postgres(sockets: str) -> None:
    """A backend that alone has touched them would otherwise be charged for them."""
    client = await asyncpg.connect(host=sockets, user="sfumato", database="sfumato")
    backend = psutil.Process(await client.fetchval("SELECT pg_backend_pid()"))
    await client.execute("CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 1)")
    before = usage_of(backend, POSTGRES).memory, usage_of(backend, "any").memory
    await client.execute("INSERT INTO wide SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    after = usage_of(backend, POSTGRES).memory, usage_of(backend, "any").memory
    await client.execute("DROP TABLE wide")
    await client.close()
    if sys.platform == "linux":
        assert after[0] - before[0] < 4e6
        assert after[1] - before[1] > 10e6


def test_handles_and_memory_are_counted() -> None:
    process = psutil.Process()
    before = usage_of(process, "up")
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    block = bytearray(os.urandom(1) * 50_000_000)
    after = usage_of(process, "up")
    assert after.handles - before.handles == 10
    assert after.memory - before.memory > 0.9 * len(block)
    for file in files:
        os.close(file)
