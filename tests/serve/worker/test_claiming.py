"""Which pictures a worker gets, on a real Postgres: one test a rule."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from sqlalchemy import text

from pipelines.diffusion.request import EngineStats
from serve.database import Database
from serve.jobs.lifecycle import Jobs
from serve.worker.claims import Claims
from serve.worker.queue import Claim, Shape
from serve.worker.reaper import Reaper
from tests.serve.conftest import MODEL, ask, make_tenant
from tests.serve.jobs.test_lifecycle import age_worker, files, worker


async def run(database: Database, statement: str, **values: object) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement), values)


async def let_wait(database: Database, seconds: float) -> None:
    """Everything queued was queued so much earlier."""
    await run(
        database, "UPDATE images SET queued_at = queued_at - :s * interval '1 second'", s=seconds
    )


def seeds(claims: list[Claim]) -> list[int]:
    return [claim.request.seed for claim in claims]


async def test_priority_goes_before_slack(jobs: Jobs, claims: Claims, tenant_id: UUID) -> None:
    await jobs.submit(tenant_id, ask(seed=1, deadline_s=1))
    await jobs.submit(tenant_id, ask(seed=2, priority=3))
    w = await worker(claims)
    assert seeds([(await claims.claim(w, 1))[0] for _ in range(2)]) == [2, 1]


async def test_who_is_due_sooner_goes_first(jobs: Jobs, claims: Claims, tenant_id: UUID) -> None:
    for seed, deadline_s in ((1, 3000), (2, 1000), (3, 2000)):
        await jobs.submit(tenant_id, ask(seed=seed, deadline_s=deadline_s))
    w = await worker(claims)
    assert seeds([(await claims.claim(w, 1))[0] for _ in range(3)]) == [2, 3, 1]


async def test_who_needs_longer_begins_sooner_for_the_same_deadline(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    await jobs.submit(tenant_id, ask(seed=1, num_inference_steps=4, deadline_s=1000))
    await jobs.submit(tenant_id, ask(seed=2, num_inference_steps=900, deadline_s=1000))
    (first,) = await claims.claim(await worker(claims), 1)
    assert first.request.seed == 2


async def test_the_older_goes_first_among_equals(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    for seed in range(5):
        await jobs.submit(tenant_id, ask(seed=seed))
    w = await worker(claims)
    assert seeds([(await claims.claim(w, 1))[0] for _ in range(5)]) == [0, 1, 2, 3, 4]


async def test_the_running_shape_is_preferred_but_does_not_starve_others(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    for seed, width in ((1, 64), (2, 128), (3, 64), (4, 128)):
        await jobs.submit(tenant_id, ask(seed=seed, width=width, height=width))
    w = await worker(claims)
    running = Shape(128, 128, MODEL)
    (first,) = await claims.claim(w, 1, running)
    assert first.request.seed == 2
    # The others have waited for longer than the shape is worth.
    await run(
        database,
        "UPDATE images SET start_by = start_by - interval '10 seconds' WHERE width = 64",
    )
    assert seeds([(await claims.claim(w, 1, running))[0] for _ in range(3)]) == [1, 3, 4]


async def test_the_running_shape_is_found_behind_many_others(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    for _ in range(5):
        await jobs.submit(tenant_id, ask(n=10))
    await jobs.submit(tenant_id, ask(seed=99, width=128))
    (claim,) = await claims.claim(await worker(claims), 1, Shape(128, 64, MODEL))
    assert claim.request.seed == 99


@pytest.mark.parametrize("places", [1, 2])
async def test_tenants_share_by_seconds_and_not_by_what_they_queue(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID, places: int
) -> None:
    other = await make_tenant(database, "second")
    for _ in range(4):
        await jobs.submit(tenant_id, ask(n=10, num_inference_steps=8, guidance_scale=1.0))
    await jobs.submit(other, ask(n=10, num_inference_steps=16, guidance_scale=1.0))
    w = await worker(claims)
    taken: Counter[UUID] = Counter()
    for _ in range(12 // places):
        taken.update(claim.tenant_id for claim in await claims.claim(w, places))
    # Twice as dear a picture: half as many of them, in spite of the shorter queue.
    assert taken[tenant_id] + taken[other] == 12
    assert 7 <= taken[tenant_id] <= 9


async def test_a_weight_of_three_gets_three_times_as_much(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    other = await make_tenant(database, "second")
    await run(database, "UPDATE tenants SET weight = 3 WHERE id = :id", id=other)
    for tenant in (tenant_id, other):
        for _ in range(3):
            await jobs.submit(tenant, ask(n=10))
    w = await worker(claims)
    taken: Counter[UUID] = Counter()
    for _ in range(16):
        taken.update(claim.tenant_id for claim in await claims.claim(w, 2))
    assert taken[other] + taken[tenant_id] == 32
    assert 22 <= taken[other] <= 26


@pytest.mark.parametrize("places", [1, 2])
async def test_a_tenant_that_comes_later_is_not_behind_the_whole_queue(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID, places: int
) -> None:
    for _ in range(5):
        await jobs.submit(tenant_id, ask(n=10))
    w = await worker(claims)
    await claims.claim(w, 8)
    other = await make_tenant(database, "second")
    await jobs.submit(other, ask())
    next_two = [claim for _ in range(2 // places) for claim in await claims.claim(w, places)]
    assert other in {claim.tenant_id for claim in next_two}


async def test_two_workers_share_one_job_of_eight_pictures(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    first, second = await worker(claims), await worker(claims)
    await jobs.submit(tenant_id, ask(n=8))
    assert len(await claims.claim(first, 8, spare=8)) == 4
    assert await claims.claim(first, 4, spare=8, holding=4) == []
    assert len(await claims.claim(second, 8, spare=8)) == 4


async def test_workers_that_look_at_once_take_different_pictures(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    workers = [await worker(claims) for _ in range(4)]
    await jobs.submit(tenant_id, ask(n=8))
    shares = await asyncio.gather(*[claims.claim(w, 8) for w in workers])
    assert [len(share) for share in shares] == [2] * 4
    assert len({claim.image_id for share in shares for claim in share}) == 8


async def test_what_the_other_worker_leaves_is_taken_after_a_while(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    first, _silent = await worker(claims), await worker(claims)
    await jobs.submit(tenant_id, ask(n=8))
    await claims.claim(first, 8)
    await let_wait(database, 1.1)
    assert len(await claims.claim(first, 4, holding=4)) == 4


async def test_places_behind_the_next_step_are_for_those_that_waited(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    w = await worker(claims)
    await jobs.submit(tenant_id, ask(n=10))
    assert len(await claims.claim(w, 4, spare=4)) == 4
    await let_wait(database, 1.1)
    assert len(await claims.claim(w, 0, spare=4, holding=4)) == 4


@pytest.fixture
async def suspects(
    jobs: Jobs, claims: Claims, database: Database, reaper: Reaper, tenant_id: UUID
) -> None:
    """Two pictures whose worker died."""
    await jobs.submit(tenant_id, ask(seed=1, n=2))
    silent = await worker(claims)
    await claims.claim(silent, 8)
    await age_worker(database, silent, 60)
    assert await reaper.reap() == 2


@pytest.mark.usefixtures("suspects")
async def test_a_picture_that_was_lost_is_drawn_alone(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    await jobs.submit(tenant_id, ask(seed=7, n=3))
    w = await worker(claims)
    (first,) = await claims.claim(w, 8, spare=8)
    assert (first.alone, first.attempt) == (True, 2)
    assert await claims.complete(first, files())
    (second,) = await claims.claim(w, 8, spare=8)
    assert second.alone
    assert await claims.complete(second, files())
    rest = await claims.claim(w, 8)
    assert [claim.alone for claim in rest] == [False] * 3


@pytest.mark.usefixtures("suspects")
async def test_a_busy_worker_alone_makes_itself_free_for_a_lost_picture(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    """Else, on a busy day, it would never be drawn."""
    await jobs.submit(tenant_id, ask(seed=7, n=3))
    w = await worker(claims)
    assert await claims.claim(w, 4, holding=4) == []


@pytest.mark.usefixtures("suspects")
async def test_of_several_busy_workers_each_lost_picture_stops_one(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    for _ in range(4):
        await jobs.submit(tenant_id, ask(seed=7, n=10))
    await let_wait(database, 2)
    workers = [await worker(claims) for _ in range(8)]
    stopped = [w for w in workers if await claims.claim(w, 4, holding=4) == []]
    assert 1 <= len(stopped) <= 2
    (free,) = await claims.claim(workers[0], 8)  # whoever holds nothing may take it at once
    assert free.alone


async def test_claims_tell_what_is_left_of_the_deadline(
    jobs: Jobs, claims: Claims, tenant_id: UUID
) -> None:
    await jobs.submit(tenant_id, ask(deadline_s=50))
    w = await worker(claims)
    (claim,) = await claims.claim(w, 1)
    assert claim.deadline_s is not None
    assert 30 < claim.deadline_s < 50
    (held,) = await claims.held(w)
    assert held.deadline_s is not None
    assert held.deadline_s <= claim.deadline_s


async def test_what_has_not_begun_goes_to_a_worker_that_comes_later(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    first = await worker(claims)
    await jobs.submit(tenant_id, ask(n=10))
    await let_wait(database, 2)
    assert len(await claims.claim(first, 4, spare=6)) == 10
    assert await claims.excess(first, 10) == 0, "there is no other"
    second = await worker(claims)
    assert await claims.excess(first, 10) == 5, "an even share each"
    stats = EngineStats(active=6, waiting=0)
    await claims.heartbeat(second, stats, draining=False)
    assert await claims.excess(first, 10) == 2, "of its eight places two are free"
    await claims.heartbeat(second, stats, draining=True)
    assert await claims.excess(first, 10) == 0
    await claims.heartbeat(second, EngineStats(), draining=False)
    await jobs.submit(tenant_id, ask())
    assert await claims.excess(first, 10) == 0, "it can take what is queued"


async def put_in_the_background(database: Database, tenant_id: UUID) -> None:
    await run(database, "UPDATE tenants SET weight = 0 WHERE id = :id", id=tenant_id)


async def test_background_tenants_come_after_all_others(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    idle = await make_tenant(database, "idle")
    await put_in_the_background(database, idle)
    await jobs.submit(idle, ask(seed=1, n=2, priority=100))
    await let_wait(database, 60)
    await jobs.submit(tenant_id, ask(seed=10, n=2))
    w = await worker(claims)
    first = await claims.claim(w, 1, background=4)
    assert (seeds(first), first[0].background) == ([10], False)
    assert [each.index for each in await claims.claim(w, 4, holding=1)] == [1]
    assert await claims.claim(w, 4, holding=2) == [], "it draws for somebody"
    taken = await claims.claim(await worker(claims), 4, background=4)
    assert (seeds(taken), [each.background for each in taken]) == ([1, 1], [True, True])


async def test_background_tenants_take_turns_alike(
    jobs: Jobs, claims: Claims, database: Database
) -> None:
    for name in ("idle", "spare"):
        tenant = await make_tenant(database, name)
        await put_in_the_background(database, tenant)
        await jobs.submit(tenant, ask(n=8))
    taken = await claims.claim(await worker(claims), 4, background=4)
    assert sorted(Counter(each.tenant_id for each in taken).values()) == [2, 2]


async def test_a_worker_that_compares_its_claims_still_knows_which_are_in_the_background(
    jobs: Jobs, claims: Claims, database: Database, tenant_id: UUID
) -> None:
    idle = await make_tenant(database, "idle")
    await put_in_the_background(database, idle)
    w = await worker(claims)
    await jobs.submit(idle, ask())
    await claims.claim(w, 1, background=1)
    await jobs.submit(tenant_id, ask())
    await claims.claim(w, 1)
    held = {each.tenant_id: each.background for each in await claims.held(w)}
    assert held == {idle: True, tenant_id: False}


async def test_a_suspected_background_picture_is_drawn_by_a_worker_that_holds_nothing(
    jobs: Jobs, claims: Claims, database: Database
) -> None:
    idle = await make_tenant(database, "idle")
    await put_in_the_background(database, idle)
    await jobs.submit(idle, ask())
    await run(database, "UPDATE images SET crashes = 1")
    w = await worker(claims)
    assert await claims.claim(w, 4, background=3, holding_background=1) == []
    (taken,) = await claims.claim(w, 4, background=4)
    assert taken.alone
