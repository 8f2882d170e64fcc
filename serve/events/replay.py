"""What feeds ask of Postgres, read for all of a process's that ask meanwhile at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from serve.database import Database, DatabaseUnavailable
from serve.events.bus import Event
from serve.events.repository import events_beyond, existing_jobs, live_jobs
from serve.events.together import Together

MOST_JOBS = 1000
_AT_ONCE = 100

_Cursors = tuple[UUID, Mapping[UUID, int]]
"""A tenant, and the last number known of each job."""


class Replay:
    """Reads on one connection at a time, as long as Postgres answers, however many come back.

    With a transaction each, those of a redeploy would take all connections of the pool from whoever
    submits (docs/decisions/0033-clients-that-come-back.md).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events = Together(self._read_events, _AT_ONCE, shared=DatabaseUnavailable)
        self._live = Together(self._read_live, _AT_ONCE, shared=DatabaseUnavailable)

    async def after(
        self, tenant_id: UUID, cursors: Mapping[UUID, int]
    ) -> Mapping[UUID, Sequence[Event]]:
        """Each job's events beyond its number, in order; without the jobs that the tenant has not.

        Raises:
            DatabaseUnavailable: when Postgres does not answer.
        """
        return await self._events.ask((tenant_id, cursors))

    async def live(self, tenant_id: UUID) -> Sequence[UUID]:
        """The tenant's jobs that have not ended, or ended just now; the newest ``MOST_JOBS``.

        Raises:
            DatabaseUnavailable: when Postgres does not answer.
        """
        return await self._live.ask(tenant_id)

    async def _read_events(
        self, questions: Sequence[_Cursors]
    ) -> Sequence[Mapping[UUID, Sequence[Event]]]:
        lowest: dict[UUID, dict[UUID, int]] = {}
        for tenant_id, cursors in questions:
            lower(lowest.setdefault(tenant_id, {}), cursors)
        found: dict[tuple[UUID, UUID], list[Event]] = {}
        async with self._database.transaction() as session:
            for event in await events_beyond(session, lowest):
                found.setdefault((event.tenant_id, event.job_id), []).append(event)
            silent = [
                (tenant_id, job_id)
                for tenant_id, jobs in lowest.items()
                for job_id in jobs
                if (tenant_id, job_id) not in found
            ]
            for job in await existing_jobs(session, silent):
                found[job] = []
        return [
            {
                job_id: _beyond(found[tenant_id, job_id], seq)
                for job_id, seq in cursors.items()
                if (tenant_id, job_id) in found
            }
            for tenant_id, cursors in questions
        ]

    async def _read_live(self, tenants: Sequence[UUID]) -> Sequence[Sequence[UUID]]:
        async with self._database.transaction() as session:
            live = {
                tenant_id: await live_jobs(session, tenant_id, MOST_JOBS)
                for tenant_id in set(tenants)
            }
        return [live[tenant_id] for tenant_id in tenants]


def lower(lowest: dict[UUID, int], cursors: Mapping[UUID, int]) -> None:
    """Bring each job's number down to the cursor, where that is lower or the only one."""
    for job_id, seq in cursors.items():
        if seq < lowest.get(job_id, seq + 1):
            lowest[job_id] = seq


def _beyond(events: Sequence[Event], seq: int) -> Sequence[Event]:
    return [event for event in events if event.seq is not None and event.seq > seq]
