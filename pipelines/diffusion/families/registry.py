"""Which family draws for which ``_class_name`` of a model_index.json. Free of torch until asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pipelines.diffusion.families.base import Family

    FamilyLoader = Callable[[Path, torch.device, torch.dtype, Collection[str]], Family]


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    """How to load a family, and what its model folders do not say of themselves.

    ``loader`` is "module:function". ``denoiser`` is the part that denoises, ``patch_size`` the
    latents that one of its tokens covers along a side, ``sample_size`` the default latents along
    a side where the denoiser's configuration has none. ``clip_encoders`` are the CLIP text encoders
    whose last layers a request may leave out, beyond the ``clip_unused`` that are always.
    ``rounds_up`` as in ``ModelDescription``.
    """

    loader: str
    denoiser: str
    patch_size: int = 1
    sample_size: int | None = None
    clip_encoders: tuple[str, ...] = ()
    clip_unused: int = 0
    rounds_up: bool = False


_STABLE_DIFFUSION = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion:load",
    denoiser="unet",
    clip_encoders=("text_encoder",),
)
_STABLE_DIFFUSION_XL = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion_xl:load",
    denoiser="unet",
    clip_encoders=("text_encoder", "text_encoder_2"),
    clip_unused=1,
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
        "pipelines.diffusion.families.stable_diffusion_3:load",
        denoiser="transformer",
        patch_size=2,
        clip_encoders=("text_encoder", "text_encoder_2"),
        clip_unused=1,
        rounds_up=True,
    ),
    "FluxPipeline": FamilyEntry(
        "pipelines.diffusion.families.flux:load",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
        rounds_up=True,
    ),
    "ZImagePipeline": FamilyEntry(
        "pipelines.diffusion.families.z_image:load",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
        rounds_up=True,
    ),
}


_WHOLE_CALL = "pipelines.diffusion.families.whole_call:load"


def native_classes() -> tuple[str, ...]:
    """Those whose requests share steps; of other classes they share whole calls."""
    return tuple(_FAMILIES)


def family_entry(class_name: str) -> FamilyEntry | None:
    """None for a class that is drawn by whole calls, if it can be at all."""
    return _FAMILIES.get(class_name)


def family_loader(class_name: str) -> FamilyLoader:
    """The function that loads such a folder, without the parts that are named to it."""
    entry = family_entry(class_name)
    module, _, name = (_WHOLE_CALL if entry is None else entry.loader).partition(":")
    return cast("FamilyLoader", getattr(import_module(module), name))
