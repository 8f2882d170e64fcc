"""What a model folder says of itself, read from its JSON files alone. Free of torch."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.diffusion.errors import MissingPartError, ModelIndexError, ModelNotFoundError
from pipelines.diffusion.families.registry import family_entry
from pipelines.diffusion.request import NoiseScheduler

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

# diffusers' pipelines refuse sizes that are no multiple of this.
_PIXEL_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a request must respect, and what it gets where it says nothing; sizes in pixels.

    ``size_multiple`` is the least common multiple of diffusers' own 8 and the pixels that one
    token of a transformer, or one latent of a UNet, stands for. A UNet adds nothing to it:
    diffusers interpolates where a latent size cannot be halved evenly.

    ``needs_image``: it draws from a picture only; ``needs_mask``: from a picture and a mask.
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


def describe(folder: Path) -> ModelDescription:
    """Reads a local diffusers folder.

    Raises ModelNotFoundError, ModelIndexError, UnsupportedFamilyError or MissingPartError.
    """
    index = read_index(folder)
    class_name = str(index.get("_class_name"))
    family = family_entry(class_name)
    denoiser = read_json(folder / family.denoiser / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    factor = 2 ** (len(_field(vae, "block_out_channels", folder / "vae" / "config.json")) - 1)
    size = denoiser.get("sample_size") or family.sample_size
    if size is None:
        size = _field(denoiser, "sample_size", folder / family.denoiser / "config.json")
    height, width = size if isinstance(size, list) else (size, size)
    needs_mask = family.denoiser == "unet" and denoiser.get("in_channels") == 9
    return ModelDescription(
        class_name=class_name,
        default_width=width * factor,
        default_height=height * factor,
        size_multiple=math.lcm(_PIXEL_MULTIPLE, factor * family.patch_size),
        vae_scale_factor=factor,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        default_scheduler=scheduler.get("_class_name", "unknown"),
        needs_image=needs_mask or bool(index.get("requires_aesthetics_score")),
        needs_mask=needs_mask,
    )


def noise_schedulers(default_class: str) -> tuple[NoiseScheduler, ...]:
    """Those that draw with a model whose own noise scheduler is a diffusers ``default_class``.

    Flow matching (arXiv:2210.02747) predicts a velocity, and its schedulers fit no other model.
    """
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


def _field(config: dict[str, Any], name: str, path: Path) -> Any:
    if config.get(name) is None:
        raise ModelIndexError(f"{str(path)!r} lacks {name!r}; add it to the configuration.")
    return config[name]
