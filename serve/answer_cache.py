"""Answers to reading requests, kept in Redis for seconds, until what they show is changed.

Redis may lose any of them, and may be away: then Postgres is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import StrEnum
from math import inf
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import CACHE_LOOKUPS

log = structlog.get_logger(__name__)

KEPT_S = 10.0
"""An answer is gone that long after its hash's first request."""
ANSWER_WITHIN_S = 0.25
SILENCE_S = 1.0
"""For so long after a failure no change asks Redis."""
MOST_ANSWERS = 64
"""In one hash; further ones are not kept."""
_MOST_BYTES = 256 * 1024

EVERYBODY = "everybody"
"""The owner of answers that are the same for every tenant."""


class Cached(StrEnum):
    """What is kept; the metric's label ``cache``."""

    PAGES = "pages"
    TRENDS = "trends"


_FIND = """
local generation = redis.call('HGET', KEYS[1], '')
if not generation then
    generation = ARGV[2]
    redis.call('HSET', KEYS[1], '', generation)
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {generation, redis.call('HGET', KEYS[1], ARGV[1])}
"""
"""KEYS: a hash of an owner's answers by their requests, with its generation under the empty name.
ARGV: the request, the generation of a new hash, the milliseconds that it is kept."""

_KEEP = """
local same = redis.call('HGET', KEYS[1], '') == ARGV[2]
if same and redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
end
"""
"""ARGV: the request, the generation under which it was not found, the most answers, the answer."""


def answers_of(cached: Cached, owner: UUID | str) -> str:
    """The key of all of the owner's answers: who deletes it makes each of them be read again."""
    return f"sfumato:answers:{cached}:{owner}"


class AnswerCache:
    """One hash in Redis by owner; it is gone ``KEPT_S`` after its first answer, or with a change.

    A change deletes the hash after its commit. A new hash has a new generation. An answer is kept
    only under the generation that was there before it was read, so one that was read before a
    commit is not kept after it.

    If a change cannot tell Redis of it, other processes may show what was before, for ``KEPT_S``
    at most. This process itself reads nothing from Redis until all that was kept then is gone.
    """

    def __init__(self, url: str, meter: Meter = UNMETERED) -> None:
        self._redis = redis.from_url(
            url,
            socket_connect_timeout=ANSWER_WITHIN_S,
            socket_timeout=ANSWER_WITHIN_S,
            # A process that stood still times out although the answer is there.
            retry=Retry(NoBackoff(), 1),
        )
        self._find = self._redis.register_script(_FIND)
        self._keep = self._redis.register_script(_KEEP)
        self._meter = meter
        self._reading: dict[tuple[bytes, str], asyncio.Task[bytes]] = {}
        self._silent_until = -inf
        self._distrusted_until = -inf

    async def get(
        self,
        cached: Cached,
        owner: UUID | str,
        request: str,
        read: Callable[[], Coroutine[Any, Any, bytes]],
    ) -> bytes:
        """The kept answer, or what ``read`` returns; raises what that raises.

        Requests that miss the same answer at once wait for one ``read``. While Redis is away each
        reads by itself: without a generation nobody knows whether another's began before a change.
        """
        key = answers_of(cached, owner)
        found = await self._found(key, request)
        generation, answer = found or (None, None)
        self._meter.count(CACHE_LOOKUPS, cache=cached.value, result="hit" if answer else "miss")
        if answer is not None:
            return answer
        if generation is None:
            return await read()
        flight = (generation, request)
        if flight not in self._reading:
            reading = asyncio.create_task(self._read(key, generation, request, read))
            reading.add_done_callback(lambda task: self._landed(flight, task))
            self._reading[flight] = reading
        return await asyncio.shield(self._reading[flight])

    @asynccontextmanager
    async def changing(self, cached: Cached, *owners: UUID | str) -> AsyncIterator[None]:
        """Around a transaction that changes what the owners' answers show.

        They are forgotten even if it fails: a commit whose confirmation was lost may have happened.
        """
        try:
            yield
        finally:
            await self.forget(cached, *owners)

    async def forget(self, cached: Cached, *owners: UUID | str) -> None:
        """What the owners' answers show was changed, and is committed."""
        if not owners:
            return
        if monotonic() < self._silent_until:
            self._distrusted_until = monotonic() + KEPT_S
            return
        try:
            await self._redis.unlink(*(answers_of(cached, owner) for owner in owners))
        except (RedisError, OSError) as error:
            self._failed(error)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _found(self, key: str, request: str) -> tuple[bytes, bytes | None] | None:
        """The generation and the answer, if it is kept; None while Redis is away."""
        if monotonic() < self._distrusted_until:
            return None
        new, kept_ms = uuid4().hex, int(KEPT_S * 1000)
        try:
            generation, answer = await self._find(keys=[key], args=[request, new, kept_ms])
        except (RedisError, OSError) as error:
            self._failed(error)
            return None
        return generation, answer

    async def _read(
        self,
        key: str,
        generation: bytes,
        request: str,
        read: Callable[[], Coroutine[Any, Any, bytes]],
    ) -> bytes:
        answer = await read()
        if len(answer) <= _MOST_BYTES and monotonic() >= self._distrusted_until:
            try:
                await self._keep(keys=[key], args=[request, generation, MOST_ANSWERS, answer])
            except (RedisError, OSError) as error:
                self._failed(error)
        return answer

    def _landed(self, flight: tuple[bytes, str], task: asyncio.Task[bytes]) -> None:
        del self._reading[flight]
        if not task.cancelled():
            task.exception()  # every waiting request has received it: asyncio need not log it

    def _failed(self, error: Exception) -> None:
        self._silent_until = monotonic() + SILENCE_S
        self._distrusted_until = monotonic() + KEPT_S
        log.warning("answers.redis_unavailable", error=str(error))
