"""The models that are served now: the configuration, and what changed since the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from serve.open_enum import OpenEnum
from serve.settings import FurtherModelSettings, Settings

log = structlog.get_logger(__name__)


class ModelState(OpenEnum):
    """Whether a model takes jobs."""

    ACTIVE = "active"
    PAUSED = "paused"
    """It keeps its queue, draws nothing of it, and takes no more jobs."""
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """A row of ``model_changes``; a model that was added has a pool and settings."""

    name: str
    state: ModelState
    pool: str | None = None
    settings: dict[str, Any] | None = None
    declared: bool = False
    error: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UploadedLora:
    """A row of ``loras``; ``sha256`` in hex, ``size`` in bytes."""

    model: str
    name: str
    sha256: str
    size: int
    uploaded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """``settings`` with every model that is served, and since when some of them are paused.

    ``loras`` are those that were uploaded, by model and name; ``settings`` has the others.
    """

    settings: Settings
    paused: dict[str, datetime | None]
    loras: Mapping[str, Mapping[str, UploadedLora]] = field(default_factory=dict)

    def active(self, pool: str) -> list[str]:
        """The pool's models that are drawn with."""
        models = self.settings.served_pools[pool].models
        return [name for name in models if name not in self.paused]


def apply_changes(
    configured: Settings, changes: Iterable[Change], uploaded: Iterable[UploadedLora] = ()
) -> Served:
    """The configuration with the changes.

    The configuration wins where it has come to name a model that was added, or a LoRA that was
    uploaded. A row that another version wrote and this one cannot read is passed by.
    """
    models, paused = dict(configured.models), {}
    pools = {name: [*pool.models] for name, pool in configured.pools.items()}
    for change in changes:
        if change.name not in configured.served:
            if change.settings is None or change.state not in (
                ModelState.ACTIVE,
                ModelState.PAUSED,
            ):
                continue
            if configured.pools and change.pool not in pools:
                log.warning("models.pool_unknown", model=change.name, pool=change.pool)
                continue
            try:
                models[change.name] = FurtherModelSettings(**change.settings)
            except ValidationError as error:
                log.warning("models.unreadable", model=change.name, error=str(error))
                continue
            if change.pool in pools:
                pools[change.pool].append(change.name)
        if change.state is ModelState.PAUSED:
            paused[change.name] = change.changed_at
    divided = {
        name: pool.model_copy(update={"models": tuple(pools[name])})
        for name, pool in configured.pools.items()
    }
    settings = configured.model_copy(update={"models": models, "pools": divided})
    loras: dict[str, dict[str, UploadedLora]] = {}
    for lora in uploaded:
        model = settings.served.get(lora.model)
        if model is not None and lora.name not in model.loras:
            loras.setdefault(lora.model, {})[lora.name] = lora
    return Served(settings, paused, loras)
