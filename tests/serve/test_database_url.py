"""DATABASE_URL as platforms hand it out."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from loadtests.chaos.proxy import FaultProxy, unix_socket
from serve.database import Database
from serve.database_url import DatabaseUrl
from serve.settings import Settings

SECRET = "s3cret"
URL = f"postgres://someone:{SECRET}@db.example:5432/pictures"


async def test_libpqs_parameters_reach_postgres(database_url: str) -> None:
    folder = Path(parse_qs(urlsplit(database_url).query)["host"][0])
    proxy = FaultProxy(unix_socket(folder / ".s.PGSQL.5432"))
    name = urlsplit(database_url).path
    database = Database(
        f"postgres://sfumato:{SECRET}@127.0.0.1:{await proxy.start()}{name}?sslmode=prefer"
        "&connect_timeout=7&channel_binding=prefer&gssencmode=disable&application_name=pictures"
        "&keepalives=1&keepalives_idle=30&options=-c%20work_mem%3D7MB%20-c%20statement_timeout%3D9s"
        "&target_session_attrs=read-write"
    )
    async with database.transaction() as session:
        said = [
            (await session.scalars(text(f"SHOW {name}"))).one()
            for name in ("work_mem", "statement_timeout", "application_name")
        ]
    await database.close()
    await proxy.close()
    assert said == ["7MB", "9s", "pictures"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("channel_binding=require", "channel_binding=require cannot be honoured"),
        ("gssencmode=require", "gssencmode=require cannot be honoured"),
        ("client_encoding=latin1", "client_encoding=latin1 cannot be honoured"),
        ("sslmode=perhaps", "sslmode must be one of disable, allow"),
        ("ssl=perhaps", "sslmode must be one of disable, allow"),
        ("target_session_attrs=best", "target_session_attrs must be one of any"),
        ("connect_timeout=soon", "connect_timeout must be a whole number"),
        ("sslmode=verify-full&sslrootcert=/nowhere.pem", "the file that sslrootcert names"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
        ("pgbouncer=true", "the parameter pgbouncer is not known"),
        ("sslmode", "is not name=value"),
    ],
)
def test_what_cannot_be_honoured_is_refused_at_the_start_without_the_password(
    query: str, told: str
) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        Settings(database_url=f"{URL}?{query}")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://someone:{SECRET}/more@db.example/pictures",
        f"postgres://someone:{SECRET}?more@db.example/pictures",
        f"postgres://someone:{SECRET}#more@db.example/pictures",
        f"postgres://someone:{SECRET}[more@db.example/pictures",
        f"mysql://someone:{SECRET}@db.example/pictures",
        f"{SECRET}",
    ],
)
def test_a_url_that_is_cut_in_the_wrong_place_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ValidationError, match="DATABASE_URL") as refused:
        Settings(database_url=url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        (f"{URL}?ssl=true", "sslmode=require"),
        (f"{URL}?ssl=disable", "sslmode=disable"),
        (f"{URL}?fallback_application_name=one", "application_name=one"),
        (
            "postgresql+asyncpg://u@/d?host=/run/a:5432&host=/run/b:5433",
            "host=%2Frun%2Fa%3A5432%2C",
        ),
        (
            "postgres://u:p%40ss@one:5432,two:5433/d?target_session_attrs=any",
            "p%40ss@one:5432,two:5433/d",
        ),
        ("postgres://u@[::1]:5432/d", "postgresql://u@[::1]:5432/d"),
    ],
)
def test_other_spellings_are_understood(url: str, dsn: str) -> None:
    assert dsn in DatabaseUrl.parse(url).dsn


def test_the_systems_authorities_may_vouch_for_the_server() -> None:
    address = DatabaseUrl.parse(f"{URL}?sslmode=verify-full&sslrootcert=system")
    assert address.verified_by_system
    assert "ssl" not in address.dsn
    Database(f"{URL}?sslmode=verify-full&sslrootcert=system")
