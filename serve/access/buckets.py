"""Buckets in Redis that all ingress processes take from; each its share while Redis is away."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serve.access.gcra import INSTANT_S, SCRIPT, LocalBuckets, Rate, Taken

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S = 0.25
SILENCE_S = 1.0
"""After a failure Redis is not asked for so long, and then by one request alone."""
_MOST_OWED = 10_000
_PREFIX = "sfumato:limit:"


class Buckets:
    """Exact across processes while Redis answers.

    Else each process gives its share: what there is, over the most processes that there may be.
    What a process gives by Redis it notes in its own bucket as well, so that an outage hands it no
    second burst; what it gives by itself it owes to Redis until that answers again.
    """

    def __init__(self, url: str, processes: int) -> None:
        self._redis = redis.from_url(
            url,
            socket_connect_timeout=ANSWER_WITHIN_S,
            socket_timeout=ANSWER_WITHIN_S,
            # A process that stood still takes an answer that is there for one that did not come.
            # Whatever was asked twice may be taken twice, which is the safe side.
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._script = self._redis.register_script(SCRIPT)
        self._processes = processes
        self._local = LocalBuckets()
        self._owed: dict[str, float] = {}
        self._silent_until = 0.0
        self._failed = False

    async def take(self, name: str, rate: Rate, cost: float) -> Taken:
        """Take ``cost`` from the bucket, or nothing; below zero it is given back."""
        share = rate.share(self._processes)
        if monotonic() >= self._silent_until:
            owed = self._owed.pop(name, 0.0)
            if self._failed:
                self._silent_until = monotonic() + SILENCE_S
            try:
                given, wait_s, full_in_s = await self._script(
                    keys=[_PREFIX + name],
                    args=[rate.seconds(cost), rate.depth_s, rate.seconds(owed)],
                )
            except (RedisError, OSError) as error:
                self._owe(name, owed)
                self._silent_until = monotonic() + SILENCE_S
                self._failed = True
                log.warning("limits.redis_unavailable", error=str(error))
            else:
                self._silent_until, self._failed = 0.0, False
                if given:
                    self._local.note(name, share, cost)
                return Taken.of(
                    rate,
                    given=bool(given),
                    wait_s=0.0 if given else float(wait_s),
                    full_in_s=float(full_in_s),
                )
        taken = self._local.take(name, share, cost)
        if taken.given:
            self._owe(name, cost)
        return taken

    async def look(self, name: str, rate: Rate, cost: float) -> Taken:
        """What would become of taking ``cost`` now, or better: nothing is taken.

        While Redis is away only the share of one process is there, which this does not tell.
        """
        found = await self.take(name, rate, 0.0)
        wait_s = rate.wait_s(cost, found.full_in_s)
        return replace(found, given=wait_s < INSTANT_S, wait_s=wait_s)

    def _owe(self, name: str, amount: float) -> None:
        if len(self._owed) >= _MOST_OWED:
            self._owed.clear()
        self._owed[name] = max(0.0, self._owed.get(name, 0.0) + amount)

    async def close(self) -> None:
        await self._redis.aclose()
