"""Loops that go on after errors, and know how fresh they are."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from serve.database import DatabaseUnavailable
from serve.supervise import Loop, LoopStuck, RoundDone, check


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.supervise._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("serve.supervise._LONGEST_PAUSE_S", 0.08)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_goes_on_after_any_error_and_logs_it() -> None:
    failures = [DatabaseUnavailable("Postgres is away."), KeyError("a row of tomorrow")]
    rounds = 0

    async def run(round_done: RoundDone) -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            if failures:
                raise failures.pop(0)
            round_done()
            rounds += 1

    with capture_logs() as logs:
        loop = Loop("reaper", run)
        await until(lambda: rounds > 3)
        await loop.stop()
    said = [(line["event"], line["log_level"], line["loop"]) for line in logs]
    assert said == [("loop.failed", "warning", "reaper"), ("loop.broken", "error", "reaper")]
    assert loop.task.cancelled()


async def test_pauses_grow_until_a_round_completes() -> None:
    began: list[float] = []

    async def run(round_done: RoundDone) -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 5:
            round_done()
        raise OSError("no")

    loop = Loop("reaper", run)
    await until(lambda: len(began) > 6)
    await loop.stop()
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert all(pauses[number] >= 0.01 * 2**number for number in range(4))
    assert pauses[4] < pauses[3]


async def test_what_is_fatal_ends_it_and_so_does_a_return() -> None:
    async def die(_: RoundDone) -> None:
        raise KeyError("engine")

    async def finish(round_done: RoundDone) -> None:
        round_done()

    fatal, finished = Loop("pull", die, fatal=KeyError), Loop("progress", finish)
    with pytest.raises(KeyError):
        await fatal.task
    await finished.task
    assert not fatal.stuck


async def test_a_loop_that_fails_is_not_stuck_and_one_that_hangs_is() -> None:
    async def fail(_: RoundDone) -> None:
        raise DatabaseUnavailable("Postgres is away.")

    async def hang(round_done: RoundDone) -> None:
        round_done()
        await asyncio.Event().wait()

    failing = Loop("reaper", fail, stuck_after_s=0.2)
    hanging = Loop("courier", hang, stuck_after_s=0.2)
    boundless = Loop("sweeper", hang, stuck_after_s=None)
    check([failing, hanging, boundless])
    await asyncio.sleep(0.5)
    with pytest.raises(LoopStuck, match=r"courier \(\d+ s\)\.$"):
        check([failing, hanging, boundless])
    assert failing.age_s > 0.4, "a round that failed was not completed"
    for loop in (failing, hanging, boundless):
        await loop.stop()


async def test_stopping_outlasts_whoever_swallows_a_cancellation() -> None:
    async def deaf(_: RoundDone) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    loop = Loop("event-bus", deaf)
    await asyncio.sleep(0)
    await loop.stop()
    assert loop.task.cancelled()
