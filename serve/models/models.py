"""Which models are served: read, and changed while the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import structlog
from pydantic import ValidationError

from pipelines.diffusion.errors import ModelLoadError
from serve.database import Database, DatabaseUnavailable, Session
from serve.errors import ServiceError
from serve.http.errors import InvalidValue
from serve.jobs.admission import Admission
from serve.jobs.errors import ModelNotFound
from serve.jobs.limits import ServedModels, describe_model
from serve.models import repository
from serve.models.changes import Change, ModelState, Served, UploadedLora, apply_changes
from serve.models.errors import (
    ModelBusy,
    ModelConfigured,
    ModelExists,
    PoolNotFound,
)
from serve.models.schemas import Declaration, LoraStatus, ModelStatus, NewModel
from serve.settings import Settings
from serve.supervise import RoundDone, ignore_round
from serve.tables import JobState

log = structlog.get_logger(__name__)

LOOK_S = 2.0


class Models:
    """The configuration's models, with what operators change; one row a change in Postgres.

    Every ingress and every replica looks at the rows every two seconds.
    """

    def __init__(
        self,
        database: Database,
        configured: Settings,
        served: ServedModels,
        admission: Admission,
    ) -> None:
        self._database = database
        self._configured = configured
        self._served = served
        served.look = self.look
        self._admission = admission
        self._changes: list[Change] = []
        self.loras: list[UploadedLora] = []
        """Those that were uploaded, as of the last look."""
        self._waiting: Mapping[str, object] | None = None
        """A declaration that Postgres was not there for."""
        self.declaration_error: str | None = None
        """Why this process could not follow the last declaration."""

    async def watch(self, round_done: RoundDone = ignore_round) -> None:
        """Look until cancelled.

        Raises:
            DatabaseUnavailable: run it again.
        """
        while True:
            if self._waiting is not None:
                await self.declare(self._waiting)
            await self.look()
            round_done()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Follow what was changed since the last look, by whichever process."""
        async with self._database.transaction() as session:
            changes = await repository.read_changes(session)
            loras = await repository.read_loras(session)
        if (changes, loras) == (self._changes, self.loras):
            return
        now = apply_changes(self._configured, changes, loras)
        known, before = self._served.descriptions, self._served.settings.served
        descriptions = {}
        for name, model in now.settings.served.items():
            if name in known and before.get(name) == model:
                descriptions[name] = known[name]
                continue
            try:
                descriptions[name] = await asyncio.to_thread(describe_model, now.settings, name)
            except ModelLoadError as error:  # its folder is not on this machine
                log.warning("models.not_described", model=name, error=str(error))
        self._served.settings, self._served.descriptions = now.settings, descriptions
        self._served.paused = now.paused
        self._served.lora_files = {
            model: {name: lora.sha256 for name, lora in each.items()}
            for model, each in now.loras.items()
        }
        self._admission.follow(now.settings, _active(now))
        self._changes, self.loras = changes, loras

    async def add(self, model: NewModel) -> ModelStatus:
        """Serve one more, from now on.

        Raises:
            ModelExists: its name or an alias of it is taken.
            ModelBusy: one of that name was removed and is still drawn with.
            PoolNotFound: there is no such pool.
            InvalidValue: its folder holds no model that can be served.
        """
        change = await self._checked(model)
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            served = apply_changes(self._configured, await repository.read_changes(session))
            every = served.settings.served
            taken = every.keys() | {alias for each in every.values() for alias in each.aliases}
            for name in (model.name, *model.aliases):
                if name in taken:
                    raise ModelExists(
                        f"The model {name!r} is served already; remove it first, or take another"
                        " name."
                    )
            if await self._in_use(session, model.name):
                raise ModelBusy(
                    f"The last {model.name!r} is still drawn with; try again once its pictures are"
                    " done."
                )
            await repository.write_change(session, change)
        return await self._changed(model.name)

    async def pause(self, name: str, *, paused: bool) -> ModelStatus:
        """Have it keep its queue and take no more jobs, or go on.

        Raises:
            ModelNotFound: it is not served.
        """
        state = ModelState.PAUSED if paused else ModelState.ACTIVE
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            change = await self.current(session, name)
            if change.state is not state:
                await repository.write_change(session, replace(change, state=state))
        return await self._changed(name)

    async def remove(self, name: str) -> None:
        """Serve it no more; its queued jobs fail within seconds.

        Raises:
            ModelNotFound: it is not served.
            ModelConfigured: only the configuration can remove it.
        """
        if name in self._configured.served:
            raise ModelConfigured(
                f"The configuration names {name!r}: pause it, or take it out of the configuration."
            )
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            change = await self.current(session, name)
            await repository.write_change(session, replace(change, state=ModelState.REMOVED))
        await self.look()

    async def list(self) -> list[ModelStatus]:
        """Every model with its state, its queue, and on how many replicas it is."""
        await self.look()
        async with self._database.transaction() as session:
            images = await repository.live_images(session)
            workers = await repository.models_of_workers(session)
        by_name = {change.name: change for change in self._changes}
        served = apply_changes(self._configured, self._changes, self.loras)
        pools = served.settings.pool_of
        return [
            ModelStatus(
                name=name,
                pool=pools[name],
                path=model.path,
                state=ModelState.PAUSED if name in served.paused else ModelState.ACTIVE,
                since=by_name[name].changed_at if name in by_name else None,
                configured=name in self._configured.served,
                queued=images.get(name, {}).get(JobState.QUEUED, 0),
                running=images.get(name, {}).get(JobState.RUNNING, 0),
                replicas=sum(pool == pools[name] for pool, _ in workers),
                ready=sum(name in models for _, models in workers),
                error=by_name[name].error if name in by_name else None,
                loras=[
                    *(LoraStatus(name=each, configured=True) for each in model.loras),
                    *map(LoraStatus.of, served.loras.get(name, {}).values()),
                ],
            )
            for name, model in served.settings.served.items()
        ]

    async def declare(self, user_config: Mapping[str, object]) -> None:
        """Bring the models to what Serve's ``user_config`` declares, or change nothing.

        What an earlier one declared and this one does not is taken back. What operators changed
        otherwise stays. If it is wrong, ``declaration_error`` says why.
        """
        self._waiting = None
        try:
            await self._declare(Declaration.model_validate(user_config))
        except DatabaseUnavailable:
            self._waiting = user_config
        except (ServiceError, ValidationError) as error:
            self.declaration_error = str(error)
            log.error("models.declaration_refused", error=str(error))  # noqa: TRY400 - no traceback
        except Exception as error:  # Serve would end the process
            self.declaration_error = f"{type(error).__name__}: {error}"
            log.exception("models.declaration_failed")
        else:
            self.declaration_error = None

    async def _declare(self, declaration: Declaration) -> None:
        added: dict[str, Change] = {}
        for model in declaration.models:
            if model.name in added:
                raise ModelExists(f"`models` names {model.name!r} twice; take one of them out.")
            added[model.name] = await self._checked(model)
        async with self._database.transaction() as session:
            await repository.lock_changes(session)
            before = {each.name: each for each in await repository.read_changes(session)}
            wanted = {
                name: replace(change, declared=True)
                for name, change in added.items()
                if name not in self._configured.served
            }
            known = (
                self._configured.served.keys()
                | wanted.keys()
                | {name for name, each in before.items() if each.state is not ModelState.REMOVED}
            )
            for name in declaration.paused:
                if name not in known:
                    raise ModelNotFound(f"`paused` names {name!r}, which is not served.")
                base = wanted.get(name) or before.get(name) or Change(name, ModelState.ACTIVE)
                wanted[name] = replace(base, state=ModelState.PAUSED, declared=True)
            for name, each in before.items():
                if each.declared and name not in wanted:
                    state = ModelState.ACTIVE if each.settings is None else ModelState.REMOVED
                    wanted[name] = replace(each, state=state, declared=False)
            self._check_names({**before, **wanted}.values())
            for name, change in wanted.items():
                if name not in before or not _says_the_same(before[name], change):
                    await repository.write_change(session, change)
        await self.look()

    def _check_names(self, changes: Iterable[Change]) -> None:
        every = apply_changes(self._configured, changes).settings.served
        names = [*every, *(alias for each in every.values() for alias in each.aliases)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ModelExists(f"{twice[0]!r} would name two models; take another name or alias.")

    async def _checked(self, model: NewModel) -> Change:
        pools = self._configured.served_pools
        pool = model.pool or self._configured.pool_of[self._configured.model.name]
        if pool not in pools:
            raise PoolNotFound(
                f"There is no pool {pool!r}; use one of {', '.join(pools)}.", param="pool"
            )
        settings = model.settings
        trial = self._configured.model_copy(update={"models": {model.name: settings}})
        try:
            await asyncio.to_thread(describe_model, trial, model.name)
        except ModelLoadError as error:
            raise InvalidValue(f"path: {error}", param="path") from error
        said = settings.model_dump(mode="json", exclude_unset=True)
        return Change(model.name, ModelState.ACTIVE, pool, said)

    async def current(self, session: Session, name: str) -> Change:
        """The model's row, or what one would say. Raises ModelNotFound."""
        changes = {each.name: each for each in await repository.read_changes(session)}
        change = changes.get(name)
        if name in self._configured.served:
            return change or Change(name, ModelState.ACTIVE)
        if change is None or change.state is ModelState.REMOVED:
            raise not_served(name)
        return change

    @staticmethod
    async def _in_use(session: Session, name: str) -> bool:
        images = await repository.live_images(session)
        workers = await repository.models_of_workers(session)
        return name in images or any(name in models for _, models in workers)

    async def _changed(self, name: str) -> ModelStatus:
        return next(each for each in await self.list() if each.name == name)


async def active_models(database: Database, pool: str, configured: Sequence[str]) -> Sequence[str]:
    """The models of a pool that are drawn with, for who has no settings: the autoscaling policy.

    ``configured`` are those that the configuration puts into it.
    """
    async with database.transaction() as session:
        changes = {each.name: each for each in await repository.read_changes(session)}
    idle = {name for name, each in changes.items() if each.state is not ModelState.ACTIVE}
    added = [
        name
        for name, each in changes.items()
        if each.settings is not None and each.pool == pool and name not in configured
    ]
    return [name for name in (*configured, *added) if name not in idle]


def _active(served: Served) -> Mapping[str, Sequence[str]]:
    return {pool: served.active(pool) for pool in served.settings.served_pools}


def not_served(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model {name[:100]!r} is not served here.", param="model")


def _says_the_same(before: Change, now: Change) -> bool:
    def content(change: Change) -> tuple[object, ...]:
        return change.state, change.pool, change.settings, change.declared

    return content(before) == content(now)
