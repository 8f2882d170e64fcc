"""Which family draws for which ``_class_name`` of a model_index.json. Free of torch until asked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pipelines.diffusion.catalog import ModelDescription
    from pipelines.diffusion.families.base import Family

    class FamilyClass(Protocol):
        """What a family's class offers beside its instances."""

        @staticmethod
        def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
            """The folder's pipeline in plain memory, less the parts ``without``."""

        def __call__(self, pipeline: Any, description: ModelDescription) -> Family:
            """The family, over a pipeline that is on its device."""


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    """A family, and what its model folders do not say of themselves.

    ``family`` is "module:Class". ``denoiser`` is the part that denoises, ``patch_size`` the
    latents that one of its tokens covers along a side, ``sample_size`` the default latents along
    a side where the denoiser's configuration has none.
    """

    family: str
    denoiser: str
    patch_size: int = 1
    sample_size: int | None = None


_STABLE_DIFFUSION = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion:StableDiffusion", denoiser="unet"
)
_STABLE_DIFFUSION_XL = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion_xl:StableDiffusionXL", denoiser="unet"
)

_FAMILIES = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInpaintPipeline": _STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": _STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": _STABLE_DIFFUSION_XL,
    "StableDiffusionXLImg2ImgPipeline": _STABLE_DIFFUSION_XL,
    "StableDiffusionXLInpaintPipeline": _STABLE_DIFFUSION_XL,
    "StableDiffusion3Pipeline": FamilyEntry(
        "pipelines.diffusion.families.stable_diffusion_3:StableDiffusion3",
        denoiser="transformer",
        patch_size=2,
    ),
    "FluxPipeline": FamilyEntry(
        "pipelines.diffusion.families.flux:Flux",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
    ),
    "ZImagePipeline": FamilyEntry(
        "pipelines.diffusion.families.z_image:ZImage",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
    ),
}


_WHOLE_CALL = "pipelines.diffusion.families.whole_call:WholeCall"


def native_classes() -> tuple[str, ...]:
    """Those whose requests share steps; of other classes they share whole calls."""
    return tuple(_FAMILIES)


def family_entry(class_name: str) -> FamilyEntry | None:
    """None for a class that is drawn by whole calls, if it can be at all."""
    return _FAMILIES.get(class_name)


def family_class(class_name: str) -> FamilyClass:
    """The class that draws with such a folder."""
    entry = family_entry(class_name)
    module, _, name = (_WHOLE_CALL if entry is None else entry.family).partition(":")
    return cast("FamilyClass", getattr(import_module(module), name))
