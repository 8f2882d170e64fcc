"""Questions that are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serve.events.batched_reads import BatchedReads


class Answerer:
    """Answers a number with its square, whenever it is let; ``bad`` ones spoil their round."""

    def __init__(self, *bad: int) -> None:
        self.asked: list[list[int]] = []
        self.let = asyncio.Semaphore(0)
        self.fault: Exception | None = None
        self.bad = set(bad)

    async def __call__(self, questions: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(questions))
        await self.let.acquire()
        if self.fault is not None:
            raise self.fault
        if spoilt := self.bad.intersection(questions):
            raise ValueError(f"There is no square of {spoilt}.")
        return [question**2 for question in questions]


async def asked(answerer: Answerer, times: int) -> None:
    """Return once it has been asked so often."""
    async with asyncio.timeout(10):
        while len(answerer.asked) < times:
            await asyncio.sleep(0)


async def test_who_asks_alone_is_answered_at_once() -> None:
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=3, patience_s=60)
    for number in range(3):
        answerer.let.release()
        assert await reads.read(number) == number**2
    assert answerer.asked == [[0], [1], [2]]


async def test_who_comes_meanwhile_is_answered_with_as_many_others_as_fit() -> None:
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=3, patience_s=60)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reads.read(1))
        await asked(answerer, 1)
        rest = [tasks.create_task(reads.read(number)) for number in range(2, 9)]
        await asyncio.sleep(0)
        assert answerer.asked == [[1]]  # never two at a time
        for times in range(1, 5):
            await asked(answerer, min(times, 4))
            answerer.let.release()
    assert answerer.asked == [[1], [2, 3, 4], [5, 6, 7], [8]]
    assert [task.result() for task in [first, *rest]] == [n**2 for n in range(1, 9)]


async def test_nobody_joins_a_question_that_is_on_its_way() -> None:
    """What is read may be older than the question then."""
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=3, patience_s=60)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(reads.read(1))
        await asked(answerer, 1)
        tasks.create_task(reads.read(2))
        await asyncio.sleep(0)
        answerer.let.release()
        await asked(answerer, 2)
        tasks.create_task(reads.read(3))
        await asyncio.sleep(0)
        answerer.let.release()
        await asked(answerer, 3)
        answerer.let.release()
    assert answerer.asked == [[1], [2], [3]]


async def test_who_leaves_takes_the_answer_from_nobody() -> None:
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=3, patience_s=60)
    leaving, staying = (asyncio.create_task(reads.read(number)) for number in (1, 2))
    await asked(answerer, 1)
    leaving.cancel()
    await asyncio.wait({leaving}, timeout=10)
    answerer.let.release()
    assert leaving.cancelled()
    assert await asyncio.wait_for(staying, 10) == 4


async def test_a_failure_that_all_share_is_told_to_all_and_the_next_are_answered() -> None:
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=2, patience_s=60, shared=ConnectionError)
    answerer.fault = ConnectionError("Nobody is there.")
    failing = [asyncio.create_task(reads.read(number)) for number in (1, 2)]
    await asked(answerer, 1)
    waiting = asyncio.create_task(reads.read(3))
    await asyncio.sleep(0)
    answerer.let.release()
    for task in failing:
        with pytest.raises(ConnectionError, match="Nobody"):
            await asyncio.wait_for(task, 10)
    answerer.fault = None
    answerer.let.release()
    assert await asyncio.wait_for(waiting, 10) == 9


async def test_a_question_that_cannot_be_answered_spoils_no_other() -> None:
    """They are of different tenants."""
    answerer = Answerer(3)
    reads = BatchedReads(answerer, batch_size=4, patience_s=60, shared=ConnectionError)
    first = asyncio.create_task(reads.read(1))
    await asked(answerer, 1)
    rest = [asyncio.create_task(reads.read(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    for _ in range(5):
        answerer.let.release()
    told = await asyncio.wait_for(asyncio.gather(first, *rest, return_exceptions=True), 10)
    assert [told[0], told[1], told[3]] == [1, 4, 16]
    assert isinstance(told[2], ValueError)
    assert answerer.asked == [[1], [2, 3, 4], [2], [3], [4]]
    answerer.let.release()
    assert await asyncio.wait_for(reads.read(5), 10) == 25


async def test_who_asked_alone_is_not_asked_for_again() -> None:
    answerer = Answerer(3)
    reads = BatchedReads(answerer, batch_size=4, patience_s=60)
    answerer.let.release()
    with pytest.raises(ValueError, match="no square"):
        await asyncio.wait_for(reads.read(3), 10)
    assert answerer.asked == [[3]]


async def test_a_round_that_hangs_holds_nobody_up_for_long() -> None:
    answerer = Answerer()
    reads = BatchedReads(answerer, batch_size=1, patience_s=0.01)
    hanging = asyncio.create_task(reads.read(1))
    await asked(answerer, 1)
    waiting = [asyncio.create_task(reads.read(number)) for number in (2, 3)]
    async with asyncio.timeout(10):
        while len(answerer.asked) < 3:
            await asyncio.sleep(0.01)
    assert not hanging.done()
    for _ in range(3):
        answerer.let.release()
    assert await asyncio.wait_for(asyncio.gather(hanging, *waiting), 10) == [1, 4, 9]
