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
from serve.settings import DEFAULT_POOL, Settings


def open_pool(settings: Settings, pool: str = DEFAULT_POOL) -> ModelPool:
    """The models of the pool; none is loaded yet. Raises ModelLoadError, naming the model."""
    names = settings.served_pools[pool].models
    sources = {name: open_source(settings, name) for name in names}
    return ModelPool(sources, settings.worker.model_bytes)


def hidden_previews(settings: Settings, pool: str = DEFAULT_POOL) -> set[str]:
    """The pool's models that have no previews. Raises ModelLoadError, naming the model."""
    return {name for name in settings.served_pools[pool].models if hides_previews(settings, name)}


def hides_previews(settings: Settings, name: str) -> bool:
    """Whether the model's pictures are judged once they are drawn, so that it has no previews.

    Raises ModelLoadError, naming the model.
    """
    with naming_model(name):
        checked = describe(find_description(settings.served[name].path)).has_safety_checker
    return settings.moderation.hides_previews(checked=checked)


def open_source(settings: Settings, name: str) -> ModelSource:
    """The model, to be loaded at its first request.

    What is on the hub is downloaded here, so that no request waits for it. Raises ModelLoadError,
    naming the model.
    """
    model = settings.served[name]
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
