"""Takes models up, and gives them up, as `serve.tables.ModelChange` says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

from serve.database import Database
from serve.models import repository
from serve.models.changes import Change, Served, apply_changes
from serve.settings import Settings
from serve.supervise import RoundDone, ignore_round
from serve.worker.claims import Claims

if TYPE_CHECKING:
    from pipelines.diffusion.pool import ModelSource

log = structlog.get_logger(__name__)

LOOK_S = 2.0


class Engine(Protocol):
    """What the watch needs of `pipelines.diffusion.runner.EngineRunner`."""

    def change_models(self, add: Mapping[str, ModelSource], remove: Collection[str]) -> None:
        """Soon: models that are loaded at their first request, and models to give up."""


class ModelWatch:
    """Keeps a replica's claims and engine at the models of its pool."""

    def __init__(
        self,
        database: Database,
        configured: Settings,
        pool: str,
        open_source: Callable[[Settings, str], ModelSource],
    ) -> None:
        """``open_source`` checks the model, downloads it if need be, and loads nothing."""
        self._database = database
        self._configured = configured
        self._pool = pool
        self._open_source = open_source
        self._changes: list[Change] = []
        self._opened = self._wanted(apply_changes(configured, ()))
        """The settings of each model that the engine has: at first what is configured."""
        self._refused: dict[str, object] = {}
        """Those of models that could not be taken up; they are not tried again."""

    async def run(
        self, claims: Claims, engine: Engine, round_done: RoundDone = ignore_round
    ) -> None:
        """Look every two seconds, until cancelled.

        Raises:
            DatabaseUnavailable: run it again.
        """
        while True:
            await self.look(claims, engine)
            round_done()
            await asyncio.sleep(LOOK_S)

    async def look(self, claims: Claims, engine: Engine) -> None:
        """Follow what was changed since the last look.

        Raises:
            DatabaseUnavailable: call it again.
        """
        changes = await self._read()
        if changes != self._changes:
            await self._follow(changes, claims, engine)
            self._changes = changes

    async def _follow(self, changes: list[Change], claims: Claims, engine: Engine) -> None:
        served = apply_changes(self._configured, changes)
        wanted = self._wanted(served)
        added = {}
        for name, settings in wanted.items():
            if settings == self._opened.get(name) or settings == self._refused.get(name):
                continue
            try:
                added[name] = await asyncio.to_thread(self._open_source, served.settings, name)
            except Exception as error:  # noqa: BLE001 - whatever it is, the operator is told
                self._refused[name] = settings
                await self._report(name, error)
            else:
                self._opened[name] = settings
                log.info("models.taken_up", model=name, pool=self._pool)
        removed = self._opened.keys() - wanted.keys()
        for name in removed:
            del self._opened[name]
            log.info("models.given_up", model=name, pool=self._pool)
        # The engine first gets what is claimed for it, and last loses what is no longer claimed.
        if added:
            engine.change_models(added, ())
        claims.models = tuple(name for name in served.active(self._pool) if name in self._opened)
        if removed:
            engine.change_models({}, removed)

    def _wanted(self, served: Served) -> dict[str, object]:
        models = served.settings.served_pools[self._pool].models
        return {name: served.settings.served[name] for name in models}

    async def _read(self) -> list[Change]:
        async with self._database.transaction() as session:
            return await repository.read_changes(session)

    async def _report(self, name: str, error: Exception) -> None:
        log.warning("models.refused", model=name, pool=self._pool, error=str(error))
        async with self._database.transaction() as session:
            await repository.write_error(session, name, str(error))
