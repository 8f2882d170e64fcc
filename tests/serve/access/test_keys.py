"""Keys on a real Postgres."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import event, select

from serve.access.keys import InvalidKey, KeyNotFound, Keys, KeyTooShort
from serve.access.remembered import FRESH_S
from serve.access.scopes import Scope
from serve.database import Database
from serve.tables import ApiKey


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


async def test_key_opens_its_tenants_door(keys: Keys) -> None:
    token, key = await keys.create("first", "laptop")
    other, _ = await keys.create("second", "laptop")

    principal = await keys.authenticate(token)

    assert (principal.tenant_id, principal.key_id) == (key.tenant_id, key.id)
    assert (await keys.authenticate(other)).tenant_id != key.tenant_id


async def test_only_the_digest_is_kept(keys: Keys, database: Database) -> None:
    token, _ = await keys.create("first", "laptop")

    async with database.transaction() as session:
        kept = (await session.execute(select(ApiKey))).scalar_one()

    assert re.fullmatch(r"sfm_[A-Za-z0-9_-]{43}", token)
    assert kept.prefix == token[:12]
    assert kept.digest == hashlib.sha256(token.encode()).digest()


async def test_keys_of_a_tenant_share_it(keys: Keys) -> None:
    _, first = await keys.create("first", "laptop")
    _, second = await keys.create("first", "server")

    assert first.tenant_id == second.tenant_id
    assert [key.name for key in await keys.list("first")] == ["laptop", "server"]
    assert await keys.list("nobody") == []


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 600, "sfm_" + "x" * 43, "é" * 30, "\ud800" * 30]
)
async def test_no_key_at_all(keys: Keys, token: str) -> None:
    with pytest.raises(InvalidKey):
        await keys.authenticate(token)


async def test_revoked_here_ends_at_once(keys: Keys) -> None:
    token, key = await keys.create("first", "laptop")
    await keys.authenticate(token)

    await keys.revoke(key.id)
    await keys.revoke(key.id)

    with pytest.raises(InvalidKey):
        await keys.authenticate(token)
    assert [kept.revoked_at is not None for kept in await keys.list()] == [True]


async def test_revoked_elsewhere_ends_within_the_cache_time(
    keys: Keys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, key = await keys.create("first", "laptop")
    await keys.authenticate(token)
    await Keys(database).revoke(key.id)
    await keys.authenticate(token)  # remembered still

    later = time.monotonic() + FRESH_S
    monkeypatch.setattr("serve.access.remembered.monotonic", lambda: later)

    with pytest.raises(InvalidKey):
        await keys.authenticate(token)


async def test_many_sockets_that_ask_for_one_key_at_once_cost_one_query(
    keys: Keys, database: Database
) -> None:
    token, key = await keys.create("first", "laptop")
    principal = await keys.authenticate(token)
    asked: list[str] = []
    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))

    await asyncio.gather(*(keys.confirm(principal) for _ in range(50)))
    assert len([query for query in asked if "api_keys" in query]) == 1

    await keys.revoke(key.id)
    ends = await asyncio.gather(
        *(keys.confirm(principal) for _ in range(50)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [InvalidKey] * 50


async def test_revoking_nothing_is_told(keys: Keys) -> None:
    with pytest.raises(KeyNotFound):
        await keys.revoke(uuid4())


async def test_own_key_is_ensured_once(keys: Keys) -> None:
    token = "a string of the operator's own"
    for _ in range(2):
        await keys.ensure(token)

    assert len(await keys.list("default")) == 1
    assert (await keys.authenticate(token)).tenant_id == (await keys.list())[0].tenant_id


async def test_own_key_stays_revoked(keys: Keys) -> None:
    token = "a string of the operator's own"
    await keys.ensure(token)
    await keys.revoke((await keys.list())[0].id)

    await keys.ensure(token)

    with pytest.raises(InvalidKey):
        await keys.authenticate(token)


async def test_another_own_key_ends_the_one_before(database: Database, keys: Keys) -> None:
    first, second = "the first string of the operator's", "the second string of the operator's"
    made, _ = await keys.create("default", "SFUMATO_API_KEY", [Scope.ADMIN])
    foreign, _ = await keys.create("another", "laptop")
    await keys.ensure(first)
    assert await keys.authenticate(first)

    await Keys(database).ensure(second)  # after a restart

    fresh = Keys(database)
    with pytest.raises(InvalidKey):
        await fresh.authenticate(first)
    for token in (second, made, foreign):
        assert await fresh.authenticate(token)

    await fresh.ensure(first)  # a change of mind
    later = Keys(database)
    assert await later.authenticate(first)
    with pytest.raises(InvalidKey):
        await later.authenticate(second)


async def test_an_own_key_that_create_made_keeps_its_end(database: Database, keys: Keys) -> None:
    token, made = await keys.create("default", "laptop", expires_in_s=3600)

    await keys.ensure(token)
    await keys.ensure("a string of the operator's own")

    assert await Keys(database).authenticate(token), "made by `create`, it lives on"
    (kept,) = [key for key in await keys.list() if key.id == made.id]
    assert kept.expires_at == made.expires_at


async def test_own_key_must_be_long(keys: Keys) -> None:
    with pytest.raises(KeyTooShort):
        await keys.ensure("x" * 23)
    assert await keys.list() == []
    await keys.ensure("x" * 24)
