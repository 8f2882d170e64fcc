"""Many listeners, told a few at a time."""

from __future__ import annotations

import asyncio
from functools import partial

from serve.events.bus import Subscription, WakeQueue
from tests.serve.events.test_bus import durable


async def rung(bells: list[asyncio.Event]) -> list[int]:
    """How many bells are rung, each time that the loop has gone round."""
    counts: list[int] = []
    while not counts or counts[-1] < len(bells):
        await asyncio.sleep(0)
        counts.append(sum(bell.is_set() for bell in bells))
    return counts


async def test_the_loop_goes_round_between_one_few_and_the_next() -> None:
    queue, bells = WakeQueue(at_once=2), [asyncio.Event() for _ in range(5)]
    for bell in bells:
        queue.add(bell.set)
    assert not any(bell.is_set() for bell in bells)
    assert await rung(bells) == [2, 4, 5]
    bells[3].clear()
    queue.add(bells[3].set)  # it moves again
    assert await rung(bells) == [5]


async def test_an_event_joins_the_one_before_for_all_whose_turn_is_to_come() -> None:
    queue = WakeQueue(at_once=1)
    listeners = [Subscription(wake=queue.add) for _ in range(3)]
    told: list[tuple[int, list[int | None]]] = []

    async def listen(number: int) -> None:
        subscription = listeners[number]
        while sum(len(seqs) for who, seqs in told if who == number) < 2:
            await subscription.wakeup.wait()
            subscription.wakeup.clear()
            told.append((number, [event.seq for event in iter(subscription.pop, None)]))

    def offer(seq: int) -> None:
        for subscription in listeners:
            subscription.offer(durable(seq))

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(listen(number))
        await asyncio.sleep(0)
        offer(1)
        while not told:
            await asyncio.sleep(0)
        offer(2)
    assert told == [(0, [1]), (1, [1, 2]), (2, [1, 2]), (0, [2])]


async def test_one_that_fails_keeps_nobody_waiting() -> None:
    queue, woken, failures = WakeQueue(at_once=2), list[int](), list[str]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(str(context["exception"])))

    def fail() -> None:
        raise RuntimeError("It has no ears.")

    queue.add(fail)
    for number in range(4):
        queue.add(partial(woken.append, number))
    try:
        async with asyncio.timeout(10):
            while len(woken) < 4:
                await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert (woken, failures) == ([0, 1, 2, 3], ["It has no ears."])
