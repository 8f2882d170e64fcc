"""What a model folder says of itself, read from its JSON files alone. Free of torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
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
from pipelines.diffusion.noise_schedulers import (
    check_scheduler,
    check_steps,
    noise_schedulers,
    steps_range,
    tells_original,
)
from pipelines.diffusion.request import NoiseScheduler
from pipelines.diffusion.sizes import PIXEL_MULTIPLE, Sizes, sizes_of

SAFETY_CHECKER = "safety_checker"
"""The part by its name in ``model_index.json``."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

# By which names diffusers' pipelines call the part that denoises, and that which decodes.
_DENOISERS = ("transformer", "unet", "decoder")
_DECODERS = ("vae", "movq", "vqvae", "vqgan")

# These ask the noise scheduler for the noise-free picture where there is one step.
_ONE_STEP_BY_ORIGINAL = ("PixArtAlphaPipeline",)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a request must respect, and what it gets where it says nothing; sizes in pixels.

    ``size_multiple`` is the least common multiple of diffusers' own 8 and the pixels that one
    token of a transformer, or one latent of a UNet, stands for. A UNet adds nothing to it:
    diffusers interpolates where a latent size cannot be halved evenly.

    ``needs_image``: it draws from a picture only; ``needs_mask``: from a picture and a mask;
    ``takes_image``: it can start from a picture. ``has_safety_checker``: of its own, for what it
    draws. ``max_clip_skip``: the most of the CLIP text encoders' last layers that can be left out.

    ``scheduler`` is the configuration of the model's own noise scheduler, ``max_side`` what its
    position embeddings know, ``fixed_steps`` the one number of steps that it draws in.
    ``rounds_up``: of the steps that a source picture leaves, part of one is made whole.
    ``sizes`` are the only ones that it draws, (width, height); ``area`` is the square, in pixels a
    side, that it brings all sizes to.
    """

    class_name: str
    default_width: int
    default_height: int
    size_multiple: int
    vae_scale_factor: int
    scheduler: Mapping[str, Any]
    needs_image: bool = False
    needs_mask: bool = False
    takes_image: bool = True
    has_safety_checker: bool = False
    fixed_steps: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    area: int | None = None
    max_clip_skip: int = 0
    max_side: int | None = None
    rounds_up: bool = False

    @property
    def schedulers(self) -> tuple[NoiseScheduler, ...]:
        """The noise schedulers that it can be drawn with."""
        keeps_its_own = self.class_name.endswith("CombinedPipeline")  # which are of other pipelines
        return (NoiseScheduler.DEFAULT,) if keeps_its_own else noise_schedulers(self.scheduler)

    def steps_range(self, name: NoiseScheduler) -> tuple[int, int]:
        """The fewest and the most denoising steps by that noise scheduler."""
        if self.fixed_steps is not None:
            return self.fixed_steps, self.fixed_steps
        fewest, most = steps_range(name, self.scheduler)
        if self.class_name in _ONE_STEP_BY_ORIGINAL and not tells_original(name, self.scheduler):
            fewest = max(fewest, 2)
        return fewest, most

    def check_steps(self, name: NoiseScheduler, steps: int) -> None:
        """Raises RequestError for steps by a noise scheduler that it cannot be drawn in."""
        check_scheduler(name, self.schedulers)
        check_steps(name, steps, *self.steps_range(name))

    def made_steps(self, steps: int, strength: float) -> int:
        """Of so many, those that a source picture's ``strength`` leaves, as diffusers rounds."""
        if self.rounds_up:
            return steps - int(max(steps - min(steps * strength, steps), 0))
        return min(int(steps * strength), steps)

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
        if self.max_side is not None and max(width, height) > self.max_side:
            raise RequestError(
                f"A picture of {width}x{height} pixels cannot be drawn; this model knows positions"
                f" up to {self.max_side} pixels a side."
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

    def check_source(self, *, image: bool, mask: bool) -> None:
        """Raises RequestError where there is no source picture or mask and one is needed, or the
        reverse."""
        if self.needs_mask and not (image and mask):
            raise RequestError(
                "This model paints into pictures; give an image and its mask.",
                "mask" if image else "model",
            )
        if self.needs_image and not image:
            raise RequestError("This model refines pictures; give an image to start from.", "model")
        if image and not self.takes_image:
            raise RequestError("This model draws from text alone; leave out the image.", "model")
        if mask and not image:
            raise RequestError(
                "A mask needs the picture that it belongs to; give an image as well.", "image"
            )

    def check_strength(self, steps: int, strength: float) -> None:
        """Raises RequestError for one that leaves none of so many steps to make."""
        if not 0 < strength <= 1:
            raise RequestError(
                f"strength is {strength:g}; give one above 0 and at most 1.", "strength"
            )
        if not self.made_steps(steps, strength):
            raise RequestError(
                f"A strength of {strength:g} leaves none of {steps} steps to make; raise one of"
                " them.",
                "strength",
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
        scheduler=scheduler,
        needs_image=needs_mask or bool(index.get("requires_aesthetics_score")),
        needs_mask=needs_mask,
        takes_image=family is not None,
        has_safety_checker=is_part(SAFETY_CHECKER, index.get(SAFETY_CHECKER)),
        fixed_steps=whole.steps,
        sizes=whole.sizes,
        area=None if whole.area is None else whole.area * sizes.latent,
        max_clip_skip=0 if family is None else _max_clip_skip(folder, family),
        max_side=_max_side(_first_config(folder, _DENOISERS) or {}, whole, sizes.latent),
        rounds_up=family is not None and family.rounds_up,
    )


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


def _max_side(denoiser: dict[str, Any], whole: WholeCallEntry, latent: int) -> int | None:
    """In pixels: as many tokens as there are position embeddings along a side."""
    tokens = denoiser.get("pos_embed_max_size") or min(denoiser.get("axes_lens", [])[1:], default=0)
    if whole.counts_all_positions:
        tokens = math.isqrt(tokens)
    patch = denoiser.get("patch_size") or denoiser.get("all_patch_size", [1])[0]
    return tokens * patch * latent or None


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
