"""What of many steps is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID, uuid4

import numpy as np

from pipelines.diffusion.request import Progress
from serve.events.bus import EventBus
from serve.events.event import Event
from serve.worker.progress import ProgressBoard
from serve.worker.queue import Claim
from tests.serve.conftest import ask


class Told(EventBus):
    """Keeps what is published, a list a time."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1")
        self.times: list[list[Event]] = []

    async def publish(self, *events: Event) -> None:
        self.times.append(list(events))


def claims_of(job_id: UUID, count: int) -> list[Claim]:
    return [Claim(uuid4(), job_id, uuid4(), uuid4(), index, 1, ask()) for index in range(count)]


async def test_a_job_of_many_pictures_is_told_of_once_a_time_and_they_take_turns() -> None:
    bus = Told()
    board = ProgressBoard(bus)
    jobs = {job_id: claims_of(job_id, count) for job_id, count in ((uuid4(), 4), (uuid4(), 1))}
    running = asyncio.create_task(board.run())
    step = 0
    while len(bus.times) < 8:
        step += 1
        for claim in (claim for claims in jobs.values() for claim in claims):
            board.put(claim, Progress(str(claim.image_id), step, 1000))
        await asyncio.sleep(0.01)
    board.close()
    await running
    for events in bus.times:
        assert len({event.job_id for event in events}) == len(events) <= 2
    told = Counter(event.data["image_id"] for events in bus.times[:8] for event in events)
    many, one = jobs.values()
    assert [told[str(claim.image_id)] for claim in many] == [2, 2, 2, 2]
    assert told[str(one[0].image_id)] == 8


async def test_the_newest_step_is_told_with_the_preview_of_an_older_one() -> None:
    bus = Told()
    board = ProgressBoard(bus)
    (claim,) = claims_of(uuid4(), 1)
    preview = np.zeros((8, 8, 3), np.uint8)
    board.put(claim, Progress("r", 3, 9, preview))
    board.put(claim, Progress("r", 4, 9))
    (told,) = board._take_due()
    assert told[1].step == 4
    assert told[1].preview is preview


async def test_of_a_picture_that_ended_nothing_more_is_told() -> None:
    board = ProgressBoard(Told())
    (claim,) = claims_of(uuid4(), 1)
    board.put(claim, Progress("r", 3, 9))
    board.drop(claim)
    assert board._take_due() == []
