"""What a model folder says of itself, read from its JSON files alone. Free of torch."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.diffusion.errors import (
    CustomCodeError,
    MissingPartError,
    ModelIndexError,
    ModelNotFoundError,
    RequestError,
)
from pipelines.diffusion.families.registry import (
    FamilyEntry,
    WholeCallEntry,
    family_entry,
    whole_call_entry,
)
from pipelines.diffusion.request import NoiseScheduler
from pipelines.diffusion.sizes import PIXEL_MULTIPLE, Sizes, sizes_of

SAFETY_CHECKER = "safety_checker"
"""The part by its name in ``model_index.json``."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

# By which names diffusers' pipelines call the part that denoises, and that which decodes.
_DENOISERS = ("transformer", "unet", "decoder")
_DECODERS = ("vae", "movq", "vqvae", "vqgan")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a request must respect, and what it gets where it says nothing; sizes in pixels.

    ``size_multiple`` is the least common multiple of diffusers' own 8 and the pixels that one
    token of a transformer, or one latent of a UNet, stands for. A UNet adds nothing to it:
    diffusers interpolates where a latent size cannot be halved evenly.

    ``needs_image``: it draws from a picture only; ``needs_mask``: from a picture and a mask;
    ``takes_image``: it can start from a picture. ``has_safety_checker``: of its own, for what it
    draws. ``max_clip_skip``: the most of the CLIP text encoders' last layers that can be left out.

    ``fixed_steps`` is the one number of steps that it draws in. ``sizes`` are the only ones that it
    draws, (width, height); ``area`` is the square, in pixels a side, that it brings all sizes to.
    """

    class_name: str
    default_width: int
    default_height: int
    size_multiple: int
    vae_scale_factor: int
    prediction_type: str
    default_scheduler: str
    needs_image: bool = False
    needs_mask: bool = False
    takes_image: bool = True
    has_safety_checker: bool = False
    fixed_steps: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    area: int | None = None
    max_clip_skip: int = 0

    def check_size(self, width: int, height: int) -> None:
        """Raises RequestError for a size that cannot be drawn."""
        if self.sizes and (width, height) not in self.sizes:
            listed = ", ".join(f"{width}x{height}" for width, height in self.sizes)
            raise RequestError(
                f"A picture of {width}x{height} pixels cannot be drawn; this model takes {listed}."
            )
        multiple = self.size_multiple
        if min(width, height) < multiple or width % multiple or height % multiple:
            raise RequestError(
                f"A picture of {width}x{height} pixels cannot be drawn; this model takes multiples"
                f" of {multiple}."
            )
        if self.area is None:
            return
        scale = self.area / math.sqrt(width * height)
        drawn = tuple(int(side * scale // multiple * multiple) for side in (width, height))
        if drawn != (width, height):
            raise RequestError(
                f"A picture of {width}x{height} pixels cannot be drawn; this model takes sizes of"
                f" about {self.area}x{self.area} pixels, and would draw {drawn[0]}x{drawn[1]}."
            )

    def check_clip_skip(self, clip_skip: int) -> None:
        """Raises RequestError for more layers than can be left out."""
        if clip_skip and not self.max_clip_skip:
            raise RequestError(
                "clip_skip is for models that read prompts by CLIP; leave it out.", "clip_skip"
            )
        if not 0 <= clip_skip <= self.max_clip_skip:
            raise RequestError(
                f"clip_skip must be from 0 to {self.max_clip_skip} for this model.", "clip_skip"
            )


def describe(folder: Path) -> ModelDescription:
    """Reads a local diffusers folder.

    Raises ModelNotFoundError, ModelIndexError, CustomCodeError, UnsupportedFamilyError or
    MissingPartError.
    """
    index = read_index(folder)
    class_name = _class_name(folder, index)
    family = family_entry(class_name)
    whole = WholeCallEntry() if family else whole_call_entry(class_name)
    sizes = _sizes(folder, family) if family else _whole_call_sizes(folder, whole)
    scheduler_path = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_path) if family or scheduler_path.is_file() else {}
    unet = folder / "unet" / "config.json"
    needs_mask = family is not None and unet.is_file() and read_json(unet).get("in_channels") == 9
    return ModelDescription(
        class_name=class_name,
        default_width=sizes.width,
        default_height=sizes.height,
        size_multiple=sizes.multiple,
        vae_scale_factor=sizes.latent,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        default_scheduler=scheduler.get("_class_name", "unknown"),
        needs_image=needs_mask or bool(index.get("requires_aesthetics_score")),
        needs_mask=needs_mask,
        takes_image=family is not None,
        has_safety_checker=is_part(SAFETY_CHECKER, index.get(SAFETY_CHECKER)),
        fixed_steps=whole.steps,
        sizes=whole.sizes,
        area=None if whole.area is None else whole.area * sizes.latent,
        max_clip_skip=0 if family is None else _max_clip_skip(folder, family),
    )


def noise_schedulers(default_class: str) -> tuple[NoiseScheduler, ...]:
    """Those that draw with a model whose own noise scheduler is a diffusers ``default_class``.

    Flow matching (arXiv:2210.02747) predicts a velocity, and its schedulers fit no other model;
    EDM (arXiv:2206.00364) scales what goes into the model and what comes out in its own way.
    """
    if default_class.startswith("EDM"):
        return (NoiseScheduler.DEFAULT,)
    if default_class.startswith("FlowMatch"):
        return NoiseScheduler.DEFAULT, NoiseScheduler.FLOW_MATCH_EULER
    return tuple(name for name in NoiseScheduler if name is not NoiseScheduler.FLOW_MATCH_EULER)


def find_description(source: str) -> Path:
    """The folder that ``describe`` reads: a local one, or of a hub id the JSON files alone.

    Raises ModelNotFoundError.
    """
    folder = Path(source)
    if folder.is_dir() or not HUB_ID.fullmatch(source):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, allow_patterns=["model_index.json", "*/*config.json"])
        )
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"{source!r} is neither a folder nor to be had from the hub: {error}"
        ) from error


def read_index(folder: Path) -> dict[str, Any]:
    """The content of ``model_index.json``."""
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"There is no model folder {str(folder)!r}; give a diffusers folder or a hub id."
        )
    if not (folder / "model_index.json").is_file():
        raise ModelIndexError(
            f"{str(folder)!r} has no model_index.json; point at the folder that diffusers'"
            " save_pretrained wrote."
        )
    return read_json(folder / "model_index.json")


def is_part(name: str, origin: Any) -> bool:
    """Whether an entry of ``model_index.json`` is a part: [package, class], neither of them null.

    Others are arguments of the pipeline, which may be lists as well.
    """
    named = isinstance(origin, list) and len(origin) == 2
    return named and not name.startswith("_") and all(isinstance(each, str) for each in origin)


def read_json(path: Path) -> dict[str, Any]:
    """Raises MissingPartError or ModelIndexError."""
    if not path.is_file():
        raise MissingPartError(f"{str(path)!r} is missing; copy or download the model again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelIndexError(f"{str(path)!r} is not JSON; copy the model again.") from error
    if not isinstance(content, dict):
        raise ModelIndexError(f"{str(path)!r} is not a JSON object; copy the model again.")
    return content


def _class_name(folder: Path, index: dict[str, Any]) -> str:
    name = index.get("_class_name")
    if isinstance(name, list):
        raise CustomCodeError(
            f"model_index.json of {str(folder)!r} asks for its own code in {name[0]!r},"
            " which is not run here; choose a model of a class of diffusers."
        )
    if not isinstance(name, str):
        raise ModelIndexError(
            f"model_index.json of {str(folder)!r} lacks '_class_name'; point at the folder that"
            " diffusers' save_pretrained wrote."
        )
    return name


def _sizes(folder: Path, family: FamilyEntry) -> Sizes:
    denoiser_path = folder / family.denoiser / "config.json"
    denoiser = read_json(denoiser_path)
    vae_path = folder / "vae" / "config.json"
    factor = 2 ** (len(_field(read_json(vae_path), "block_out_channels", vae_path)) - 1)
    size = denoiser.get("sample_size") or family.sample_size
    if size is None:
        size = _field(denoiser, "sample_size", denoiser_path)
    height, width = size if isinstance(size, list) else (size, size)
    multiple = math.lcm(PIXEL_MULTIPLE, factor * family.patch_size)
    return Sizes(width * factor, height * factor, multiple, factor)


def _whole_call_sizes(folder: Path, whole: WholeCallEntry) -> Sizes:
    denoiser = _first_config(folder, _DENOISERS) or {}
    if whole.sample_size is not None:
        denoiser |= {"sample_size": whole.sample_size}
    sizes = sizes_of(denoiser, _first_config(folder, _DECODERS))
    return replace(sizes, multiple=math.lcm(sizes.multiple, whole.multiple))


def _max_clip_skip(folder: Path, family: FamilyEntry) -> int:
    """As far as diffusers goes: down to the embedding that the first layer reads."""
    configs = [folder / part / "config.json" for part in family.clip_encoders]
    layers = [read_json(path).get("num_hidden_layers", 12) for path in configs if path.is_file()]
    return min(layers, default=family.clip_unused) - family.clip_unused


def _first_config(folder: Path, parts: tuple[str, ...]) -> dict[str, Any] | None:
    for part in parts:
        path = folder / part / "config.json"
        if path.is_file():
            return read_json(path)
    return None


def _field(config: dict[str, Any], name: str, path: Path) -> Any:
    if config.get(name) is None:
        raise ModelIndexError(f"{str(path)!r} lacks {name!r}; add it to the configuration.")
    return config[name]
