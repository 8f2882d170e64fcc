"""The models of a diffusion replica, as they are configured."""

from __future__ import annotations

from pipelines.diffusion.catalog import SAFETY_CHECKER, describe, find_description
from pipelines.diffusion.loading import (
    check_folder,
    choose_device,
    choose_dtype,
    find_folder,
    read_model,
)
from pipelines.diffusion.pool import ModelPool, ModelSource, Placing
from pipelines.diffusion.weights import weights_bytes
from serve.errors import naming_model
from serve.settings import DEFAULT_POOL, FurtherModelSettings, Settings


def open_pool(settings: Settings, pool: str = DEFAULT_POOL) -> ModelPool:
    """The models of the pool; none is loaded yet.

    What is on the hub is downloaded here, so that no request waits for it. Raises ModelLoadError,
    naming the model.
    """
    names = settings.served_pools[pool].models
    sources = {name: _source(name, settings.served[name], settings) for name in names}
    return ModelPool(sources, settings.worker.model_bytes)


def hidden_previews(settings: Settings, pool: str = DEFAULT_POOL) -> frozenset[str]:
    """The pool's models whose pictures are judged once they are drawn: they have no previews.

    Raises ModelLoadError, naming the model.
    """
    hidden = set()
    for name in settings.served_pools[pool].models:
        with naming_model(name):
            path = settings.served[name].path
            checked = describe(find_description(path)).has_safety_checker
        if settings.moderation.hides_previews(checked=checked):
            hidden.add(name)
    return frozenset(hidden)


def _source(name: str, model: FurtherModelSettings, settings: Settings) -> ModelSource:
    without = () if settings.moderation.safety_checker else (SAFETY_CHECKER,)
    with naming_model(name):
        folder = find_folder(model.path, without)
        check_folder(folder, describe(folder), model.controlnets, model.loras, without)
        dtype = choose_dtype(model.dtype, choose_device(model.device))

    def read() -> Placing:
        with naming_model(name):
            placing = read_model(
                folder,
                model.device,
                model.dtype,
                model.controlnets,
                model.loras,
                settings.speed.acceleration,
                without,
            )
        return _named(name, placing)

    return ModelSource(read, weights_bytes(folder, dtype, without))


def _named(name: str, placing: Placing) -> Placing:
    with naming_model(name):
        return (yield from placing)
