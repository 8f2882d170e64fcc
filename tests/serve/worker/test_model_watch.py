"""A replica takes models up and gives them up without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from serve.database import Database
from serve.models import repository
from serve.models.changes import Change, ModelState
from serve.settings import Settings
from serve.worker import model_watch
from serve.worker.claims import Claims
from serve.worker.model_watch import ModelWatch
from tests.serve.conftest import MODEL

if TYPE_CHECKING:
    from pipelines.diffusion.pool import ModelSource

TWIN = Change("twin", ModelState.ACTIVE, "default", {"path": "/m/twin"})


class Engine:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def change_models(self, add: Mapping[str, ModelSource], remove: Collection[str]) -> None:
        self.models += add
        self.models = [name for name in self.models if name not in remove]


def opened(settings: Settings, name: str) -> ModelSource:
    if "lost" in settings.served[name].path:
        raise FileNotFoundError(f"{name} has no folder")
    return cast("ModelSource", object())


@pytest.fixture
def watch(database: Database, settings: Settings) -> ModelWatch:
    return ModelWatch(database, settings.model_copy(update={"models": {}}), "default", opened)


@asynccontextmanager
async def following(watch: ModelWatch, claims: Claims) -> AsyncIterator[Engine]:
    engine = Engine()
    looking = asyncio.create_task(watch.run(claims, engine))
    yield engine
    looking.cancel()


async def change(database: Database, row: Change) -> None:
    async with database.transaction() as session:
        await repository.write_change(session, row)


async def until(claims: Claims, *models: str) -> None:
    async with asyncio.timeout(10):
        while claims.models != models:
            await asyncio.sleep(0.01)


async def test_claims_and_engine_follow_the_rows(
    watch: ModelWatch, claims: Claims, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_watch, "LOOK_S", 0.02)
    await watch.look(claims, Engine())
    assert claims.models == (MODEL,)
    async with following(watch, claims) as engine:
        await change(database, TWIN)
        await until(claims, MODEL, "twin")
        assert engine.models == ["twin"]
        await change(database, Change(MODEL, ModelState.PAUSED))
        await until(claims, "twin")
        assert engine.models == ["twin"], "a paused one stays, for what is drawn"
        await change(database, Change(MODEL, ModelState.ACTIVE))
        await change(database, Change("twin", ModelState.REMOVED, "default", TWIN.settings))
        await until(claims, MODEL)
        async with asyncio.timeout(10):
            while engine.models:
                await asyncio.sleep(0.01)


async def test_one_that_it_cannot_take_up_is_told_and_hurts_no_other(
    watch: ModelWatch, claims: Claims, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_watch, "LOOK_S", 0.02)
    async with following(watch, claims):
        await change(database, Change("broken", ModelState.ACTIVE, "default", {"path": "/lost"}))
        await change(database, TWIN)
        await until(claims, MODEL, "twin")
        async with database.transaction() as session:
            rows = {each.name: each for each in await repository.read_changes(session)}
    assert rows["broken"].error == "broken has no folder"
    assert rows["twin"].error is None


async def test_a_replica_that_starts_later_has_what_was_added(
    watch: ModelWatch, claims: Claims, database: Database
) -> None:
    broken = Change("broken", ModelState.ACTIVE, "default", {"path": "/lost"})
    for row in (broken, TWIN, Change(MODEL, ModelState.PAUSED)):
        await change(database, row)
    engine = Engine()
    await watch.look(claims, engine)
    assert engine.models == ["twin"], "beside what is configured; the broken one hurts no other"
    assert claims.models == ("twin",)
