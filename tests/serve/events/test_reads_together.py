"""What many feeds ask for at once is read together, and each gets its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import event

from serve.database import Database
from serve.events.bus import Subscription
from serve.events.feed import Feed, JobNotFound
from serve.jobs.lifecycle import Jobs
from tests.serve.conftest import ask, make_tenant


@contextmanager
def transactions(database: Database) -> Iterator[Counter[str]]:
    """How many begin meanwhile, and how many are open at most."""
    counts: Counter[str] = Counter()

    def begin(_connection: object) -> None:
        counts["begun"] += 1
        counts["open"] += 1
        counts["most"] = max(counts["most"], counts["open"])

    def end(_connection: object) -> None:
        counts["open"] -= 1

    engine = database.engine.sync_engine
    listeners = (("begin", begin), ("commit", end), ("rollback", end))
    for name, listener in listeners:
        event.listen(engine, name, listener)
    try:
        yield counts
    finally:
        for name, listener in listeners:
            event.remove(engine, name, listener)


async def test_two_hundred_that_resume_at_once_take_two_transactions_one_after_the_other(
    jobs: Jobs, database: Database
) -> None:
    tenants = [await make_tenant(database, name) for name in ("one", "two")]
    made = [(tenant, await jobs.submit(tenant, ask())) for tenant in tenants for _ in range(5)]
    for tenant, job in made[::2]:
        await jobs.cancel(tenant, job.id)
    clients = [(*made[number % len(made)], number % 3) for number in range(200)]
    feeds = [Feed(jobs.feeds, Subscription(), tenant) for tenant, _, _ in clients]
    with transactions(database) as counts:
        await asyncio.gather(
            *(
                feed.watch(job.id, after)
                for feed, (_, job, after) in zip(feeds, clients, strict=True)
            )
        )
    assert counts["begun"] == 2
    assert counts["most"] == 1
    ended = {job.id for _, job in made[::2]}
    for feed, (_, job, after) in zip(feeds, clients, strict=True):
        told = list(iter(feed.ready, None))
        last = 2 if job.id in ended else 1
        assert [(told.job_id, told.seq) for told in told] == [
            (job.id, seq) for seq in range(after + 1, last + 1)
        ]


async def test_a_job_of_another_tenant_that_asks_for_it_at_once_is_not_found(
    jobs: Jobs, database: Database
) -> None:
    owner, stranger = [await make_tenant(database, name) for name in ("one", "two")]
    job = await jobs.submit(owner, ask())
    read = await asyncio.gather(
        *(
            jobs.feeds.events_after(tenant, {job.id: after, uuid4(): 0})
            for tenant in (owner, stranger)
            for after in (0, 1)
        )
    )
    seqs = [
        {job_id: [event.seq for event in told] for job_id, told in found.items()} for found in read
    ]
    assert seqs == [{job.id: [1]}, {job.id: []}, {}, {}]
    with pytest.raises(JobNotFound):
        await Feed(jobs.feeds, Subscription(), stranger).watch(job.id)


async def test_who_follows_everything_at_once_reads_each_job_once(
    jobs: Jobs, database: Database
) -> None:
    tenants = [await make_tenant(database, name) for name in ("one", "two")]
    made = {tenant: [(await jobs.submit(tenant, ask())).id for _ in range(3)] for tenant in tenants}
    feeds = [Feed(jobs.feeds, Subscription(), tenants[number % 2]) for number in range(60)]

    async def follow(feed: Feed) -> set[object]:
        await feed.watch_all()
        await feed.read_behind()
        return {event.job_id for event in iter(feed.ready, None)}

    with transactions(database) as counts:
        told = await asyncio.gather(*(follow(feed) for feed in feeds))
    assert told == [set(made[feed.tenant_id]) for feed in feeds]
    assert counts["begun"] == 2
