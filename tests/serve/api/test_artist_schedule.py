"""The artist by itself: one job at a time, when it is due, and never beyond its budget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from serve.api.services import Services
from serve.artist.schedule import TENANT, Schedule
from serve.settings import ArtistSettings, Settings
from serve.tables import Job
from tests.serve.api.conftest import count_rows
from tests.serve.api.drawing import Desk

EVERY_S = 600.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    artist = ArtistSettings(enabled=True, every_s=EVERY_S, gpu_seconds_per_day=1000)
    return settings.model_copy(update={"artist": artist})


def schedule_of(services: Services, **changes: Any) -> Schedule:
    """As an ingress that has just started has it."""
    artist = services.settings.artist.model_copy(update=changes)
    return Schedule(services.database, services.artist, services.served, artist)


@pytest.fixture
def desk(app: FastAPI, services: Services) -> Desk:
    return Desk(services)


async def execute(services: Services, statement: str, **values: object) -> None:
    async with services.database.transaction() as session:
        await session.execute(text(statement), values)


async def fetch(services: Services, statement: str, **values: object) -> Any:
    async with services.database.transaction() as session:
        return await session.scalar(text(statement), values)


async def draw(desk: Desk) -> None:
    for claim in await desk.claim():
        await desk.finish(claim)


async def pass_interval(services: Services) -> None:
    await execute(services, "UPDATE jobs SET created_at = created_at - interval '10 min'")


async def spent(services: Services) -> float:
    return float(await fetch(services, "SELECT coalesce(sum(seconds), 0) FROM images"))


@pytest.mark.usefixtures("app")
async def test_it_draws_for_its_own_tenant(services: Services) -> None:
    job = await schedule_of(services, themes=["animals"], models=["flow"]).submit()
    assert job is not None
    assert (job.model, job.n, job.params["theme"]) == ("flow", 2, "animals")
    assert job.why is not None
    tenant = await fetch(services, "SELECT id FROM tenants WHERE name = :name", name=TENANT)
    assert tenant == job.tenant_id
    # Weight 0: behind everybody else's.
    assert await fetch(services, "SELECT weight FROM tenants WHERE id = :id", id=tenant) == 0
    assert await count_rows(services.database, "api_keys") == 0


async def test_however_many_look_one_job_is_submitted(services: Services, desk: Desk) -> None:
    schedules = [schedule_of(services) for _ in range(5)]
    for _ in range(3):
        submitted = await asyncio.gather(*(each.submit() for each in schedules))
        assert sum(job is not None for job in submitted) == 1
        assert [await each.submit() for each in schedules] == [None] * 5  # it has not ended
        await draw(desk)
        assert [await each.submit() for each in schedules] == [None] * 5  # the next is not due
        await pass_interval(services)
    assert await fetch(services, "SELECT count(*) FROM tenants") == 1


async def test_it_never_overspends_whoever_restarts(services: Services, desk: Desk) -> None:
    first = await schedule_of(services).submit()
    assert first is not None
    price = await spent(services)
    budget = 4.5 * price
    await draw(desk)
    jobs: list[Job] = [first]
    for _ in range(8):  # each time all ingresses are new ones
        await pass_interval(services)
        schedules = [schedule_of(services, gpu_seconds_per_day=budget) for _ in range(3)]
        submitted = await asyncio.gather(*(each.submit() for each in schedules))
        jobs += filter(None, submitted)
        await draw(desk)
    assert len(jobs) == 4
    assert await spent(services) == pytest.approx(4 * price)

    # A day later the first one's seconds may be spent again; what is still drawn counts.
    await execute(
        services,
        "UPDATE jobs SET finished_at = finished_at - interval '25 hours' WHERE id = :id",
        id=first.id,
    )
    fifth = await schedule_of(services, gpu_seconds_per_day=budget).submit()
    assert fifth is not None
    assert len({job.prompt for job in (*jobs, fifth)}) == 5


async def test_what_is_drawn_again_costs_again_and_what_never_began_costs_nothing(
    services: Services, desk: Desk
) -> None:
    job = await schedule_of(services).submit()
    assert job is not None
    price = await spent(services)
    await draw(desk)
    await pass_interval(services)
    await execute(services, "UPDATE images SET attempt = 3 WHERE index = 0")  # twice lost
    assert await schedule_of(services, gpu_seconds_per_day=2.9 * price).submit() is None
    second = await schedule_of(services, gpu_seconds_per_day=3.1 * price).submit()
    assert second is not None
    await services.jobs.cancel(second.tenant_id, second.id)
    await pass_interval(services)
    assert await schedule_of(services, gpu_seconds_per_day=3.1 * price).submit() is not None


@pytest.mark.usefixtures("app")
async def test_a_budget_below_the_price_draws_nothing(services: Services) -> None:
    assert await schedule_of(services, gpu_seconds_per_day=1e-6).submit() is None
    assert await count_rows(services.database, "jobs") == 0


@pytest.mark.usefixtures("app")
async def test_it_goes_on_after_a_refusal(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that was removed; it is not asked for again and again."""
    schedule = schedule_of(services, models=["gone"], every_s=1.0)
    assert await schedule.submit() is None
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        schedule._tried_at = asyncio.get_running_loop().time() + 1e9

    monkeypatch.setattr(schedule, "submit", look)
    schedule._tried_at = float("-inf")
    running = asyncio.create_task(schedule.run())
    await asyncio.sleep(0.1)
    running.cancel()
    assert looks == 1
