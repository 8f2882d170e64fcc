"""Buckets on a real Valkey: exact over processes, and what each gives while Redis is away."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from serve.access.buckets import SILENCE_S, Buckets, Rate, _Share
from tests.serve.access.hammer import PROCESSES, Given
from tests.serve.clock import Clock

RATE = Rate(per_s=0.5, burst=20)  # so slow that a busy machine makes no difference
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def name() -> str:
    return uuid4().hex


@pytest.fixture
async def buckets(valkey_url: str) -> AsyncIterator[Buckets]:
    buckets = Buckets(valkey_url, PROCESSES)
    yield buckets
    await buckets.close()


@dataclass
class Deaf:
    """A server that takes connections and never answers."""

    url: str
    held: list[asyncio.StreamWriter]

    @property
    def asked(self) -> int:
        """How often: whoever gets no answer connects anew."""
        return len(self.held)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serve.access.buckets.monotonic", clock)
    return clock


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield Deaf(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", held)
    server.close()
    for writer in held:
        writer.close()


async def test_four_processes_are_given_what_there_is_and_no_more(
    valkey_url: str, name: str
) -> None:
    """Under five times the rate and more, within 1 %."""
    rate = Rate(per_s=10, burst=10)
    words = [valkey_url, name, str(rate.per_s), str(rate.burst), "3"]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.serve.access.hammer", *words, str(seed)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for seed in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        while await process.stdout.readline() != b"ready\n":
            pass
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    given = [Given(**json.loads(out.splitlines()[-1])) for out, _ in told]

    elapsed = max(each.last for each in given) - min(each.first for each in given)
    there_was = rate.burst + rate.per_s * elapsed
    amount = sum(each.amount for each in given)
    refusals = sum(len(each.refusals_s) for each in given)
    assert elapsed > 2
    assert refusals > 4 * sum(each.times for each in given)
    assert 0.9 * there_was <= amount <= 1.01 * there_was


async def test_a_wait_is_as_long_as_told(buckets: Buckets, name: str) -> None:
    rate = Rate(per_s=20, burst=20)
    began = time.monotonic()
    assert (await buckets.take(name, rate, 20)).given

    refused = await buckets.take(name, rate, 20)

    assert not refused.given
    assert 1 - (time.monotonic() - began) <= refused.wait_s <= 1
    await asyncio.sleep(refused.wait_s + 0.005)
    assert (await buckets.take(name, rate, 20)).given


async def test_what_is_given_back_can_be_taken(buckets: Buckets, name: str) -> None:
    await buckets.take(name, RATE, 20)
    await buckets.take(name, RATE, -15)

    again = await buckets.take(name, RATE, 15)
    too_much = await buckets.take(name, RATE, 15)

    assert (again.given, too_much.given) == (True, False)


@pytest.mark.parametrize("redis", ["valkey", "nowhere"])
async def test_to_look_takes_nothing(valkey_url: str, name: str, redis: str) -> None:
    buckets = Buckets(valkey_url if redis == "valkey" else NOWHERE, processes=1)

    for _ in range(5):
        assert (await buckets.look(name, RATE, 20)).given
    assert (await buckets.look(name, RATE, 100)).given  # by a full bucket, which then owes
    assert (await buckets.take(name, RATE, 20)).given
    looked = await buckets.look(name, RATE, 4)
    refused = await buckets.take(name, RATE, 4)

    assert not looked.given
    assert looked.wait_s == pytest.approx(refused.wait_s, abs=0.5) == pytest.approx(8, abs=0.5)
    await buckets.close()


async def test_giving_back_makes_nothing(buckets: Buckets, name: str) -> None:
    full = await buckets.take(name, RATE, -1000)

    assert full.remaining == RATE.burst
    assert not (await buckets.take(name, RATE, 20)).wait_s
    assert not (await buckets.take(name, RATE, 5)).given


@pytest.mark.parametrize("redis", ["valkey", "nowhere"])
async def test_what_costs_more_than_the_bucket_holds_waits_for_a_full_one_and_owes_the_rest(
    valkey_url: str, name: str, redis: str
) -> None:
    buckets = Buckets(valkey_url if redis == "valkey" else NOWHERE, processes=1)

    assert (await buckets.take(name, RATE, 100)).given
    refused = await buckets.take(name, RATE, 1)
    huge = await buckets.take(name, RATE, 100)

    assert refused.wait_s == pytest.approx((100 - 20 + 1) / 0.5, abs=2)
    assert huge.wait_s == pytest.approx(100 / 0.5, abs=2)
    await buckets.close()


async def test_without_redis_each_process_gives_its_share(name: str) -> None:
    buckets = Buckets(NOWHERE, processes=4)

    given = [(await buckets.take(name, RATE, 1)).given for _ in range(10)]

    assert given == [True] * 5 + [False] * 5  # a quarter of 20
    await buckets.close()


async def test_an_outage_hands_out_no_second_burst(
    buckets: Buckets, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await buckets.take(name, RATE, 5)).given

    monkeypatch.setattr(buckets, "_silent_until", time.monotonic() + 60)

    assert not (await buckets.take(name, RATE, 1)).given


async def test_a_redis_that_hangs_delays_the_first_request_alone(
    deaf: Deaf, name: str, clock: Clock
) -> None:
    buckets = Buckets(deaf.url, processes=1)
    for _ in range(50):
        assert (await buckets.take(name, Rate(1e9, 1e9), 1)).given
        assert deaf.asked == 2  # and once more
    clock.advance(0.9 * SILENCE_S)
    assert (await buckets.take(name, Rate(1e9, 1e9), 1)).given
    assert deaf.asked == 2
    await buckets.close()


async def test_one_request_asks_whether_redis_answers_again(
    deaf: Deaf, name: str, clock: Clock
) -> None:
    buckets = Buckets(deaf.url, processes=1)
    plenty = Rate(1e9, 1e9)
    await buckets.take(name, plenty, 1)
    clock.advance(1.1 * SILENCE_S)

    await asyncio.gather(*(buckets.take(name, plenty, 1) for _ in range(20)))

    assert deaf.asked == 4
    await buckets.close()


async def test_what_was_given_without_redis_is_paid_once_it_answers(
    buckets: Buckets, valkey_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Rate(per_s=0.1, burst=20)  # nothing comes back meanwhile
    other = Buckets(valkey_url, PROCESSES)
    monkeypatch.setattr(buckets, "_silent_until", time.monotonic() + 0.05)
    assert (await buckets.take(name, slow, 4)).given
    assert (await other.take(name, slow, 10)).given
    await asyncio.sleep(0.06)

    too_much = await buckets.take(name, slow, 8)

    assert not too_much.given
    assert too_much.remaining == pytest.approx(6, abs=0.1)
    assert not (await other.take(name, slow, 7)).given
    assert (await other.take(name, slow, 5.9)).given
    await other.close()


async def test_a_long_outage_is_paid_by_an_empty_bucket_at_most(
    buckets: Buckets, name: str
) -> None:
    buckets._shares[name] = share = _Share(PROCESSES)
    share.owed = 1e6

    refused = await buckets.take(name, RATE, 4)

    assert refused.wait_s == pytest.approx(4 / 0.5, abs=1)
