"""Queues, replicas, throughput and failures at one moment."""

from __future__ import annotations

from collections.abc import Sequence

from serve.database import Database
from serve.jobs.admission import Admission
from serve.jobs.backlog import read_backlog
from serve.jobs.lifecycle import Jobs
from serve.jobs.repository import QueuedOfModel, count_queued
from serve.operator import repository
from serve.operator.schemas import FailureOut, Overview, PoolOut, ReplicaOut
from serve.tables import Worker

_THROUGHPUT_S = 300.0
_MOST_FAILURES = 20


async def read_overview(database: Database, jobs: Jobs) -> Overview:
    """The service as it is now.

    Raises:
        DatabaseUnavailable: it cannot be looked up.
    """
    workers = await jobs.workers()
    async with database.transaction() as session:
        queued = await count_queued(session)
        drawn = await repository.count_drawn(session, _THROUGHPUT_S)
        failures = await repository.load_failures(session, _MOST_FAILURES)
    return Overview(
        pools=await _pools(database, jobs.admission, queued),
        replicas=[_replica(worker) for worker in workers],
        pictures_per_minute=round(drawn * 60 / _THROUGHPUT_S, 1),
        failures=[FailureOut.of_row(each) for each in failures],
    )


async def _pools(
    database: Database, admission: Admission, queued: Sequence[QueuedOfModel]
) -> Sequence[PoolOut]:
    oldest = dict.fromkeys(admission.queues, 0.0)
    for each in queued:
        pool = admission.pool_of(each.model)
        if pool in oldest:  # else its model is not served any more
            oldest[pool] = max(oldest[pool], each.oldest_s)
    backlogs = {
        name: await read_backlog(database, name, queue.models)
        for name, queue in admission.queues.items()
    }
    return [
        PoolOut(
            name=name,
            queued=backlog.queued,
            running=backlog.running,
            backlog_s=round(backlog.seconds, 3),
            wait_s=round(backlog.wait_s, 3),
            oldest_s=round(oldest[name], 3),
        )
        for name, backlog in backlogs.items()
    ]


def _replica(worker: Worker) -> ReplicaOut:
    counters = worker.counters
    return ReplicaOut(
        id=worker.id,
        pool=worker.pool,
        models=worker.models or [worker.model],
        device=worker.device,
        slots=worker.slots,
        draining=worker.draining,
        started_at=worker.started_at,
        heartbeat_at=worker.heartbeat_at,
        **{
            name: int(counters.get(name, 0))
            for name in ("steps", "request_steps", "finished", "failed")
        },
    )
