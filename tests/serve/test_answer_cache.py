"""Answers in a real Valkey: kept, forgotten with a change, and done without while it is away."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from serve import answer_cache
from serve.answer_cache import ANSWER_WITHIN_S, KEPT_S, MOST_ANSWERS, AnswerCache, Cached
from serve.local.valkey import LocalValkey
from serve.observability.registry import Registry
from tests.serve.access.test_remembered import lookups
from tests.serve.clock import Clock

PAGES = Cached.PAGES


class Shelf:
    """What is answered of, and how often it was read."""

    def __init__(self) -> None:
        self.content = "old"
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> bytes:
        """What was there when the reading began."""
        self.reads += 1
        seen = self.content.encode()
        await self.gate.wait()
        return seen


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def owner() -> str:
    return uuid4().hex


@pytest.fixture
async def caches(valkey_url: str) -> AsyncIterator[tuple[AnswerCache, AnswerCache]]:
    """Of two processes."""
    caches = AnswerCache(valkey_url), AnswerCache(valkey_url)
    yield caches
    for cache in caches:
        await cache.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For a Valkey of the test's own; a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="sfumato-answers-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_one_reading_serves_two_processes_until_a_change(
    caches: tuple[AnswerCache, AnswerCache], shelf: Shelf, owner: str
) -> None:
    here, there = caches
    for cache in (here, there, here):
        assert await cache.get(PAGES, owner, "first", shelf.read) == b"old"
    assert shelf.reads == 1

    async def lose_the_confirmation() -> None:
        async with there.changing(PAGES, owner):
            shelf.content = "new"
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await lose_the_confirmation()

    assert await here.get(PAGES, owner, "first", shelf.read) == b"new"
    assert await there.get(PAGES, owner, "first", shelf.read) == b"new"
    assert shelf.reads == 2


async def test_each_owner_request_and_kind_has_its_own(
    caches: tuple[AnswerCache, AnswerCache], shelf: Shelf, owner: str
) -> None:
    here, _ = caches
    asked = [(PAGES, owner, "a"), (PAGES, owner, "b"), (Cached.TRENDS, owner, "a")]
    asked.append((PAGES, uuid4().hex, "a"))
    for number, each in enumerate(asked):
        shelf.content = str(number)
        await here.get(*each, shelf.read)
    assert [await here.get(*each, shelf.read) for each in asked] == [b"0", b"1", b"2", b"3"]

    await here.forget(*asked[3][:2])
    shelf.content = "new"
    assert [await here.get(*each, shelf.read) for each in asked] == [b"0", b"1", b"2", b"new"]


async def test_those_who_ask_at_once_share_one_reading(
    valkey_url: str, shelf: Shelf, owner: str
) -> None:
    registry = Registry()
    cache = AnswerCache(valkey_url, registry)
    shelf.gate.clear()
    asking = [asyncio.create_task(cache.get(PAGES, owner, "a", shelf.read)) for _ in range(20)]
    while not shelf.reads:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)
    asking[0].cancel()  # the one who began it leaves
    shelf.gate.set()
    assert set(await asyncio.gather(*asking[1:])) == {b"old"}
    assert shelf.reads == 1
    await cache.get(PAGES, owner, "a", shelf.read)
    assert lookups(registry, "pages") == {"miss": 20, "hit": 1}
    await cache.close()


async def test_an_error_reaches_all_who_wait_and_is_not_kept(
    caches: tuple[AnswerCache, AnswerCache], shelf: Shelf, owner: str
) -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0.05)
        raise LookupError

    asking = [caches[0].get(PAGES, owner, "a", fail) for _ in range(3)]
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(error) for error in errors] == [LookupError] * 3
    assert await caches[0].get(PAGES, owner, "a", shelf.read) == b"old"


async def test_what_was_read_before_a_change_is_neither_kept_nor_shared_after_it(
    caches: tuple[AnswerCache, AnswerCache], shelf: Shelf, owner: str
) -> None:
    here, there = caches
    shelf.gate.clear()
    early = asyncio.create_task(here.get(PAGES, owner, "a", shelf.read))
    while not shelf.reads:
        await asyncio.sleep(0.001)
    shelf.content = "new"
    await there.forget(PAGES, owner)
    late = asyncio.create_task(here.get(PAGES, owner, "a", shelf.read))
    while shelf.reads < 2:
        await asyncio.sleep(0.001)
    shelf.gate.set()
    assert [await early, await late] == [b"old", b"new"]
    for cache in caches:
        assert await cache.get(PAGES, owner, "a", shelf.read) == b"new"
    assert shelf.reads == 2


async def test_it_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
    caches: tuple[AnswerCache, AnswerCache],
    shelf: Shelf,
    owner: str,
) -> None:
    here, _ = caches
    for _ in range(2):
        for number in range(MOST_ANSWERS + 10):
            await here.get(PAGES, owner, str(number), shelf.read)
    assert shelf.reads == MOST_ANSWERS + 10 + 10
    monkeypatch.setattr(answer_cache, "_MOST_BYTES", 3)
    monkeypatch.setattr(answer_cache, "KEPT_S", 0.2)
    await here.forget(PAGES, owner)
    shelf.content = "long"
    for _ in range(2):
        assert await here.get(PAGES, owner, "a", shelf.read) == b"long"
    assert shelf.reads == MOST_ANSWERS + 22
    shelf.content = "old"
    await here.get(PAGES, owner, "b", shelf.read)
    await asyncio.sleep(0.3)
    shelf.content = "new"
    assert await here.get(PAGES, owner, "b", shelf.read) == b"new", "it is gone after its time"


async def test_without_valkey_answers_come_as_fast_and_with_it_they_are_kept_again(
    monkeypatch: pytest.MonkeyPatch, short_folder: Path, shelf: Shelf, owner: str
) -> None:
    clock = Clock()
    monkeypatch.setattr(answer_cache, "monotonic", clock)
    valkey = LocalValkey(short_folder)
    valkey.start()
    cache = AnswerCache(valkey.url)
    await cache.get(PAGES, owner, "a", shelf.read)
    valkey.stop()

    shelf.content = "new"
    began = time.perf_counter()
    await cache.forget(PAGES, owner)
    for _ in range(20):
        assert await cache.get(PAGES, owner, "a", shelf.read) == b"new"
    assert time.perf_counter() - began < 4 * ANSWER_WITHIN_S
    assert shelf.reads == 21

    valkey.start()
    clock.advance(KEPT_S + 0.1)
    for _ in range(5):
        assert await cache.get(PAGES, owner, "a", shelf.read) == b"new"
    assert shelf.reads == 22
    await cache.close()
    valkey.stop()


async def test_a_change_that_valkey_did_not_hear_of_is_seen_by_its_own_process(
    monkeypatch: pytest.MonkeyPatch, short_folder: Path, shelf: Shelf, owner: str
) -> None:
    """Valkey stands still, keeps what it has, and goes on."""
    clock = Clock()
    monkeypatch.setattr(answer_cache, "monotonic", clock)
    with LocalValkey(short_folder) as valkey:
        assert valkey.pid is not None
        cache = AnswerCache(valkey.url)
        await cache.get(PAGES, owner, "a", shelf.read)
        os.kill(valkey.pid, signal.SIGSTOP)
        shelf.content = "new"
        began = time.perf_counter()
        await cache.forget(PAGES, owner)
        assert ANSWER_WITHIN_S < time.perf_counter() - began < 4 * ANSWER_WITHIN_S
        os.kill(valkey.pid, signal.SIGCONT)
        clock.advance(0.9 * KEPT_S)
        assert await cache.get(PAGES, owner, "a", shelf.read) == b"new"
        await cache.close()
