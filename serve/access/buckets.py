"""Buckets in Redis that all ingress processes take from; each its share while Redis is away.

The generic cell rate algorithm (ITU-T I.371 (2004), annex A.1, virtual scheduling): of a bucket
that fills at a steady rate only the time is stored at which it will be full again (there: the
theoretical arrival time). To take from it puts that time off. That is one number a bucket, no
window that begins anew, and exact for costs of any size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serve.access.remembered import Bounded

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S = 0.25
SILENCE_S = 1.0
"""For so long after a failure no request asks Redis; then one asks whether it answers again."""
_PREFIX = "sfumato:limit:"
_INSTANT_S = 1e-6
"""A shorter wait is none: that is rounding."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket holds ``burst`` and fills by ``per_s`` each second."""

    per_s: float
    burst: float

    def seconds(self, cost: float) -> float:
        """How long the bucket takes to fill by ``cost``."""
        return cost / self.per_s

    @property
    def depth_s(self) -> float:
        """How long an empty bucket takes to fill."""
        return self.burst / self.per_s

    def wait_s(self, cost: float, full_in_s: float) -> float:
        """Until ``cost`` is there, in a bucket that is full in ``full_in_s`` seconds.

        What costs more than the bucket holds is there once it is full.
        """
        wait_s = full_in_s + min(self.seconds(cost), self.depth_s) - self.depth_s
        return wait_s if cost > 0 and wait_s > _INSTANT_S else 0.0

    def held(self, full_in_s: float) -> float:
        """What is in a bucket that is full in ``full_in_s`` seconds."""
        return max(0.0, self.burst - full_in_s * self.per_s)


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of an attempt to take: how long to wait for it, 0 where it was given.

    ``remaining`` is what the bucket holds now, and ``full_in_s`` how long it takes to be full.
    """

    rate: Rate
    wait_s: float
    remaining: float
    full_in_s: float

    @property
    def given(self) -> bool:
        return not self.wait_s


# By Redis's own clock, so that processes need not agree on one. What costs more than the bucket
# holds is given by a full one, which then owes the rest.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local cost, depth, owed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
if owed > 0 then
    full_at = math.max(full_at, math.min(full_at + owed, now + depth))
end
local wait = full_at + math.min(cost, depth) - depth - now
local given = cost <= 0 or wait < 0.000001
if given then
    full_at = math.max(now, full_at + cost)
end
if given or owed > 0 then
    local kept_ms = math.ceil((full_at - now) * 1000) + 1
    redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', kept_ms)
end
return {given and '0' or tostring(wait), tostring(full_at - now)}
"""
"""KEYS: the bucket. ARGV, in seconds of filling: the cost, which is given back below zero; the
bucket's depth; what was given elsewhere, of which at most all that is there is taken. Returns
the wait, 0 where the cost was given, and the seconds until the bucket is full."""


class _Share:
    """One process's share of a bucket, by the same algorithm: each cost counts for all processes.

    What is given without Redis is ``owed`` to it.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._full_at = 0.0
        self.owed = 0.0

    def take(self, rate: Rate, cost: float) -> Taken:
        """Take ``cost``, or nothing; below zero it is given back."""
        now = monotonic()
        full_in_s = max(0.0, self._full_at - now)
        wait_s = rate.wait_s(cost * self._processes, full_in_s)
        if not wait_s:
            full_in_s = max(0.0, full_in_s + rate.seconds(cost * self._processes))
            self._full_at = now + full_in_s
            self.owed = max(0.0, self.owed + cost)
        return Taken(rate, wait_s, rate.held(full_in_s) / self._processes, full_in_s)

    def note(self, rate: Rate, cost: float) -> None:
        """Count what Redis gave, at most all that is here."""
        now = monotonic()
        full_at = max(now, self._full_at) + rate.seconds(cost * self._processes)
        self._full_at = min(full_at, now + rate.depth_s)


class Buckets:
    """Exact across processes while Redis answers.

    While it does not, each process gives its share: the limit over the most processes that there
    may be. Each process counts in its own share what it gives by Redis, so that an outage is no
    second burst. What it gives without Redis it charges to Redis once that answers again.
    """

    def __init__(self, url: str, processes: int) -> None:
        self._redis = redis.from_url(
            url,
            socket_connect_timeout=ANSWER_WITHIN_S,
            socket_timeout=ANSWER_WITHIN_S,
            # A process that stood still times out although the answer is there, so it tries once
            # more. The cost may then be taken twice, which is the safe side.
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._processes = processes
        self._shares: Bounded[str, _Share] = Bounded()
        self._silent_until = 0.0
        """After a failure; 0 once Redis has answered."""

    async def take(self, name: str, rate: Rate, cost: float) -> Taken:
        """Take ``cost`` from the bucket, or nothing; below zero it is given back."""
        self._shares[name] = share = self._shares.get(name) or _Share(self._processes)
        if monotonic() < self._silent_until:
            return share.take(rate, cost)
        if self._silent_until:
            self._silent_until = monotonic() + SILENCE_S
        owed, share.owed = share.owed, 0.0
        try:
            wait_s, full_in_s = await self._script(
                keys=[_PREFIX + name],
                args=[rate.seconds(cost), rate.depth_s, rate.seconds(owed)],
            )
        except (RedisError, OSError) as error:
            share.owed += owed
            self._silent_until = monotonic() + SILENCE_S
            log.warning("limits.redis_unavailable", error=str(error))
            return share.take(rate, cost)
        self._silent_until = 0.0
        taken = Taken(rate, float(wait_s), rate.held(float(full_in_s)), float(full_in_s))
        if taken.given:
            share.note(rate, cost)
        return taken

    async def look(self, name: str, rate: Rate, cost: float) -> Taken:
        """What `take` would return now; nothing is taken.

        Without Redis `take` may refuse more: it has one process's share alone.
        """
        found = await self.take(name, rate, 0.0)
        return replace(found, wait_s=rate.wait_s(cost, found.full_in_s))

    async def close(self) -> None:
        await self._redis.aclose()
