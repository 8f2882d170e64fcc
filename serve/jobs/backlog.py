"""How much work waits, in pictures and in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve.database import Database
from serve.jobs import repository


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pictures of a replica's models: ``queued``, ``running``, and what one finishes a second.

    ``pictures_per_s`` is the mean of the live workers' own count; None before the first picture.
    """

    queued: int
    running: int
    pictures_per_s: float | None

    def replicas(self, target_wait_s: float) -> int:
        """Replicas that clear the backlog within ``target_wait_s`` seconds; 0 with no work."""
        work = self.queued + self.running
        if work == 0:
            return 0
        if not self.pictures_per_s:
            return 1
        return max(1, math.ceil(work / (self.pictures_per_s * target_wait_s)))


async def read_backlog(database: Database, models: Sequence[str]) -> Backlog:
    async with database.transaction() as session:
        queued, running = await repository.count_work(session, models)
        rate = await repository.picture_rate(session, models)
    return Backlog(queued, running, rate)
