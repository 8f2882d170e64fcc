"""Which family draws for which ``_class_name`` of a model_index.json. Free of torch until asked."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from pipelines.diffusion.errors import UnsupportedFamilyError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pipelines.diffusion.catalog import ModelDescription
    from pipelines.diffusion.families.model import Model

    class ModelClass(Protocol):
        """What a model's class offers beside its instances."""

        @staticmethod
        def read(folder: Path, dtype: torch.dtype, without: Collection[str] = ()) -> Any:
            """The folder's pipeline in plain memory, less the parts ``without``."""

        def __call__(self, pipeline: Any, description: ModelDescription) -> Model:
            """The model, over a pipeline that is on its device."""


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    """A family, and what its model folders do not say of themselves.

    ``family`` is "module:Class". ``denoiser`` is the part that denoises, ``patch_size`` the
    latents that one of its tokens covers along a side, ``sample_size`` the default latents along
    a side where the denoiser's configuration has none. ``clip_encoders`` are the CLIP text encoders
    whose last layers a request may leave out, beyond the ``clip_unused`` that are always.
    ``rounds_up`` as in ``ModelDescription``.
    """

    family: str
    denoiser: str
    patch_size: int = 1
    sample_size: int | None = None
    clip_encoders: tuple[str, ...] = ()
    clip_unused: int = 0
    rounds_up: bool = False


_STABLE_DIFFUSION = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion:StableDiffusion",
    denoiser="unet",
    clip_encoders=("text_encoder",),
)
_STABLE_DIFFUSION_XL = FamilyEntry(
    "pipelines.diffusion.families.stable_diffusion_xl:StableDiffusionXL",
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
        "pipelines.diffusion.families.stable_diffusion_3:StableDiffusion3",
        denoiser="transformer",
        patch_size=2,
        clip_encoders=("text_encoder", "text_encoder_2"),
        clip_unused=1,
        rounds_up=True,
    ),
    "FluxPipeline": FamilyEntry(
        "pipelines.diffusion.families.flux:Flux",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
        rounds_up=True,
    ),
    "ZImagePipeline": FamilyEntry(
        "pipelines.diffusion.families.z_image:ZImage",
        denoiser="transformer",
        patch_size=2,
        sample_size=128,
        rounds_up=True,
    ),
}


@dataclass(frozen=True, slots=True)
class WholeCallEntry:
    """A pipeline that is drawn by its own call, and what its model folder does not say of it.

    ``guidance`` is the argument of the call that guides without a model distilled for it.
    ``output_type`` is "np" where tensors are not scaled to colours, nor judged. ``steps`` is the
    one number of steps that the model draws in, ``sizes`` are the only ones that it draws in,
    (width, height) in pixels; where they are none both sides are multiples of ``multiple`` pixels.
    ``area`` is the square of so many latents a side that the call brings all sizes to.
    ``sample_size`` is as in ``FamilyEntry``. ``counts_all_positions``: the denoiser's configuration
    counts the position embeddings of a square, not those along its side. ``alone``: rows of a call
    depend on each other, or a negative prompt makes it one of a single row, so that each request
    gets its own.
    """

    guidance: str = "guidance_scale"
    output_type: str = "pt"
    steps: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    multiple: int = 1
    area: int | None = None
    sample_size: int | None = None
    counts_all_positions: bool = False
    alone: bool = False


_HUNYUAN_SIZES = (
    *((1024, 1024), (1280, 1280), (1024, 768), (1152, 864), (1280, 960)),
    *((768, 1024), (864, 1152), (960, 1280), (1280, 768), (768, 1280)),
)
_KANDINSKY_5_SIZES = (
    *((1024, 1024), (640, 1408), (1408, 640), (768, 1280), (1280, 768), (896, 1152), (1152, 896)),
)

# A class is listed once a tiny random model of it drew as its own call does:
# tests/pipelines/diffusion/families/test_whole_call_classes.py.
WHOLE_CALLS = {
    "AuraFlowPipeline": WholeCallEntry(counts_all_positions=True),
    "BriaPipeline": WholeCallEntry(),
    "ChromaPipeline": WholeCallEntry(),
    "CogView3PlusPipeline": WholeCallEntry(),
    "CogView4Pipeline": WholeCallEntry(multiple=16, alone=True),
    "Flux2KleinPipeline": WholeCallEntry(),
    "HiDreamImagePipeline": WholeCallEntry(area=128, sample_size=128),
    "HunyuanDiTPipeline": WholeCallEntry(sizes=_HUNYUAN_SIZES),
    "IFPipeline": WholeCallEntry(output_type="np"),
    "Kandinsky3Pipeline": WholeCallEntry(output_type="np", multiple=64),
    "Kandinsky5T2IPipeline": WholeCallEntry(sizes=_KANDINSKY_5_SIZES, alone=True),
    "KandinskyV22CombinedPipeline": WholeCallEntry(output_type="np", multiple=64, alone=True),
    "KolorsPipeline": WholeCallEntry(),
    "Krea2Pipeline": WholeCallEntry(),
    "Lumina2Pipeline": WholeCallEntry(),
    "OvisImagePipeline": WholeCallEntry(),
    "PixArtAlphaPipeline": WholeCallEntry(),
    "PixArtSigmaPipeline": WholeCallEntry(),
    "QwenImagePipeline": WholeCallEntry(guidance="true_cfg_scale"),
    "SanaPipeline": WholeCallEntry(multiple=32),
    "SanaSprintPipeline": WholeCallEntry(steps=2, multiple=32),
    "StableDiffusionPAGPipeline": WholeCallEntry(),
}

_WHOLE_CALL = "pipelines.diffusion.families.whole_call:WholeCall"

# What pipelines of other kinds do, by their classes' names.
_OTHER_KINDS = {
    "makes videos": re.compile(
        r"Video|2V|Wan|LTX|Mochi|Allegro|Animate|Latte|Cosmos|SkyReels|Helios|HunyuanVideo|AnyFlow"
    ),
    "makes sounds": re.compile(r"Audio|Music|AceStep"),
    "draws no pictures, but what another pipeline draws them from": re.compile(r"Prior|Encod"),
    "draws from a picture": re.compile(
        r"Img2Img|Image2Image|ImageTo|Inpaint|Upscale|SuperResolution|Edit|Pix2Pix|ControlNet|Adapter"
        r"|Kontext|Fill|Redux|Variation|Decoder|Depth|Marigold"
    ),
}


def native_classes() -> tuple[str, ...]:
    """Those whose requests share steps; of other classes they share whole calls."""
    return tuple(_FAMILIES)


def family_entry(class_name: str) -> FamilyEntry | None:
    """None for a class that is drawn by whole calls, if it can be at all."""
    return _FAMILIES.get(class_name)


def whole_call_entry(class_name: str) -> WholeCallEntry:
    """Raises UnsupportedFamilyError for a class that nothing here can draw with."""
    if class_name in WHOLE_CALLS:
        return WHOLE_CALLS[class_name]
    does = (kind for kind, names in _OTHER_KINDS.items() if names.search(class_name))
    raise UnsupportedFamilyError(
        f"model_index.json names {class_name!r}, which {next(does, 'is not served')}; choose a"
        f" text-to-image model of {', '.join((*_FAMILIES, *WHOLE_CALLS))}."
    )


def model_class(class_name: str) -> ModelClass:
    """The class that draws with such a folder."""
    entry = family_entry(class_name)
    module, _, name = (_WHOLE_CALL if entry is None else entry.family).partition(":")
    return cast("ModelClass", getattr(import_module(module), name))
