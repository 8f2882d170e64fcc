"""Which family draws for which ``_class_name`` of a model_index.json. Free of torch until asked."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from pipelines.diffusion.errors import UnsupportedFamilyError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pipelines.diffusion.families.base import Family

    FamilyLoader = Callable[[Path, torch.device, torch.dtype], Family]

_LOADERS = {
    "StableDiffusionPipeline": "pipelines.diffusion.families.stable_diffusion:load",
}


def require_supported(class_name: str) -> None:
    """Raises UnsupportedFamilyError for a pipeline that no family here draws with."""
    if class_name not in _LOADERS:
        raise UnsupportedFamilyError(
            f"model_index.json names {class_name!r}; choose a model of {', '.join(_LOADERS)}."
        )


def family_loader(class_name: str) -> FamilyLoader:
    """The function that loads such a folder."""
    require_supported(class_name)
    module, _, name = _LOADERS[class_name].partition(":")
    return cast("FamilyLoader", getattr(import_module(module), name))
