"""The generic cell rate algorithm: a bucket that fills at a steady rate, kept as one time.

ITU-T I.371 (2004), annex A.1, the virtual scheduling algorithm: what is stored is the time at which
the bucket would be full again (there: the theoretical arrival time), which taking puts off. One
number a bucket, no window that begins anew, and exact for costs of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Self

INSTANT_S = 1e-6
"""No wait: what rounding makes of none."""
_MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket holds ``burst`` and fills by ``per_s`` each second."""

    per_s: float
    burst: float

    def share(self, processes: int) -> Self:
        """What falls to one of so many processes."""
        return type(self)(self.per_s / processes, self.burst / processes)

    def seconds(self, cost: float) -> float:
        """How long the bucket takes to fill by ``cost``."""
        return cost / self.per_s

    def wait_s(self, cost: float, full_in_s: float) -> float:
        """Until ``cost`` is there, in a bucket that is full in ``full_in_s`` seconds.

        What costs more than the bucket holds is there once it is full.
        """
        return max(0.0, full_in_s + min(self.seconds(cost), self.depth_s) - self.depth_s)

    @property
    def depth_s(self) -> float:
        """How long an empty bucket takes to fill."""
        return self.burst / self.per_s


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an attempt to take: whether it was given, else ``wait_s`` until it would be.

    ``remaining`` is what the bucket holds now, and ``full_in_s`` how long it takes to be full.
    """

    given: bool
    wait_s: float
    remaining: float
    full_in_s: float

    @classmethod
    def of(cls, rate: Rate, *, given: bool, wait_s: float, full_in_s: float) -> Self:
        remaining = max(0.0, rate.burst - full_in_s * rate.per_s)
        return cls(given=given, wait_s=wait_s, remaining=remaining, full_in_s=full_in_s)


# By Redis's own clock, so that processes need not agree on one. What costs more than the bucket
# holds is given by a full one, which then owes the rest.
SCRIPT = """
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
return {given and 1 or 0, tostring(wait), tostring(full_at - now)}
"""
"""KEYS: the bucket. ARGV, in seconds of filling: the cost, which is given back below zero; the
bucket's depth; what was given elsewhere, of which at most all that is there is taken. Returns
whether the cost was given, else the wait, and the seconds until the bucket is full."""


class LocalBuckets:
    """The same within one process."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def take(self, name: str, rate: Rate, cost: float) -> Taken:
        """Take ``cost``, or nothing; below zero it is given back."""
        now = monotonic()
        full_at = max(now, self._full_at.get(name, now))
        taken_s = rate.seconds(cost)
        wait_s = rate.wait_s(cost, full_at - now)
        if cost > 0 and wait_s > INSTANT_S:
            return Taken.of(rate, given=False, wait_s=wait_s, full_in_s=full_at - now)
        self._keep(name, max(now, full_at + taken_s))
        return Taken.of(rate, given=True, wait_s=0, full_in_s=self._full_at[name] - now)

    def note(self, name: str, rate: Rate, cost: float) -> None:
        """Something was taken elsewhere; at most all that is here."""
        now = monotonic()
        full_at = max(now, self._full_at.get(name, now)) + rate.seconds(cost)
        self._keep(name, min(full_at, now + rate.depth_s))

    def _keep(self, name: str, full_at: float) -> None:
        if len(self._full_at) >= _MOST_BUCKETS:
            now = monotonic()
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._full_at[name] = full_at
