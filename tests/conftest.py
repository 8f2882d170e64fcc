"""Real servers for every test: one Postgres and one Valkey a test session."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from serve.local.postgres import LocalPostgres, find_binaries
from serve.local.valkey import LocalValkey
from serve.migrations.upgrade import upgrade

# Tiny models: more threads than one only wait for each other, on a busy machine for minutes. torch
# reads it as it is imported, here and in what tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# No test is timed, and the machine is shared.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A data folder with a short path that any account may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sfumato-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url(servers_folder: Path) -> Iterator[str]:
    """SQLAlchemy's address of a server for this session; prefer `database_url` in tests."""
    with LocalPostgres(servers_folder) as postgres:
        # Tests need no power-cut safety, and creating a database is mostly fsync.
        query(postgres.url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield postgres.url


@pytest.fixture(scope="session")
def valkey_url(servers_folder: Path) -> Iterator[str]:
    """The address of a server for this session, shared by all tests: use keys of your own."""
    with LocalValkey(servers_folder) as valkey:
        yield valkey.url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of the database that `database_url` copies."""
    name = "template_sfumato"
    query(postgres_url, f"CREATE DATABASE {name}")
    asyncio.run(upgrade(postgres_url.replace("@/sfumato?", f"@/{name}?")))
    return name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """SQLAlchemy's address of a database of the test's own, dropped afterwards."""
    with new_database(postgres_url, template_database) as url:
        yield url


@contextmanager
def new_database(postgres_url: str, template: str) -> Iterator[str]:
    """A copy of the template, and its address."""
    name = f"test_{uuid.uuid4().hex}"
    query(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield postgres_url.replace("@/sfumato?", f"@/{name}?")
    query(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def query(url: str, *statements: str) -> str:
    """Runs each statement in a transaction of its own, away from any event loop."""
    plain = url.replace("postgresql+asyncpg:", "postgresql:")
    commands = [word for statement in statements for word in ("-c", statement)]
    return subprocess.run(
        [str(find_binaries() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *commands, plain],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
