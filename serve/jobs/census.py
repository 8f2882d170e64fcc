"""How many jobs and queued pictures there are, of all tenants together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve.database import Database
from serve.jobs import repository
from serve.jobs.repository import QueuedOfModel
from serve.tables import JobState


@dataclass(frozen=True, slots=True)
class Census:
    """``live`` are the jobs that have not ended, by state and model; ``ended`` the others, by
    state. The model of every ended job would take reading them all."""

    live: Mapping[tuple[JobState, str], int]
    ended: Mapping[JobState, int]
    queued: Sequence[QueuedOfModel]


async def take_census(database: Database) -> Census:
    async with database.transaction() as session:
        counts = await repository.count_jobs(session)
        return Census(
            live=await repository.count_live_jobs(session),
            ended={state: counts.get(state, 0) for state in JobState if state.terminal},
            queued=await repository.count_queued(session),
        )
