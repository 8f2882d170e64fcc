"""How much work waits, in predicted seconds of a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve.database import Database
from serve.jobs import repository
from serve.tables import JobState


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pictures of some models that are ``queued`` and ``running``, and how many ``workers``.

    The seconds are those of a device with full step batches, as predicted at submission. A running
    picture counts as half done. ``measured`` says that a replica has drawn with the first model.
    """

    queued: int
    running: int
    queued_s: float
    running_s: float
    workers: int
    measured: bool = True

    @property
    def seconds(self) -> float:
        """Remaining work for one device."""
        return self.queued_s + self.running_s / 2

    def begun_in_s(self, before_s: float) -> float:
        """Seconds until a picture begins if ``before_s`` seconds of queued pictures go first."""
        return (before_s + self.running_s / 2) / max(1, self.workers)

    @property
    def wait_s(self) -> float:
        """Seconds until all that is queued has begun."""
        return self.begun_in_s(self.queued_s)

    def replicas(self, target_wait_s: float, now: int) -> int:
        """Replicas that clear the backlog within ``target_wait_s`` seconds; 0 with no work.

        While nothing is queued, no more than there are ``now``. A model that was never measured
        keeps one at work on that.
        """
        if not self.queued and not self.running:
            return 0 if self.measured else 1
        wanted = max(1, math.ceil(self.seconds / target_wait_s))
        return wanted if self.queued else min(wanted, max(1, now))


async def read_backlog(database: Database, pool: str, models: Sequence[str]) -> Backlog:
    """Of a pool and its models; its replicas draw a first picture with the first."""
    async with database.transaction() as session:
        queued, queued_s = await repository.read_work(session, models, JobState.QUEUED)
        running, running_s = await repository.read_work(session, models, JobState.RUNNING)
        workers, _ = await repository.claiming_slots(session, pool)
        measured = not models or await repository.is_measured(session, models[0])
    return Backlog(queued, running, queued_s, running_s, workers, measured)
