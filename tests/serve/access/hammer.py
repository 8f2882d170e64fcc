"""One of several processes that take from one bucket as fast as they can.

`python -m tests.serve.access.hammer REDIS_URL BUCKET PER_S BURST SECONDS SEED` says that it is
ready, waits for a line, and tells as JSON in its last line what it was given, between which times,
and how long each refusal took.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field

from serve.access import buckets
from serve.access.buckets import Rate

PROCESSES = 4
AT_ONCE = 4


@dataclass
class Given:
    amount: float = 0.0
    times: int = 0
    first: float = float("inf")
    last: float = 0.0
    refusals_s: list[float] = field(default_factory=list)


async def hammer(url: str, name: str, rate: Rate, seconds: float, seed: int) -> Given:
    buckets.ANSWER_WITHIN_S = 10  # a machine that stands still is no outage
    door, given, chance = buckets.Buckets(url, PROCESSES), Given(), random.Random(seed)
    await asyncio.gather(*(door.take(f"{name}-warm", rate, 0) for _ in range(AT_ONCE)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    until = time.time() + seconds

    async def take() -> None:
        while time.time() < until:
            cost = chance.uniform(0.05, 1.0)
            began = time.time()
            taken = await door.take(name, rate, cost)
            ended = time.time()
            if taken.given:
                given.amount += cost
                given.times += 1
                given.first, given.last = min(given.first, began), max(given.last, ended)
            else:
                given.refusals_s.append(ended - began)
                await asyncio.sleep(0)  # what is refused without Redis never waits

    await asyncio.gather(*(take() for _ in range(AT_ONCE)))
    await door.close()
    return given


if __name__ == "__main__":
    url, name, per_s, burst, seconds, seed = sys.argv[1:]
    rate = Rate(float(per_s), float(burst))
    result = asyncio.run(hammer(url, name, rate, float(seconds), int(seed)))
    sys.stdout.write(json.dumps(asdict(result)))
