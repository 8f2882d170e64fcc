"""From a model folder or hub id to a family on its device."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from pipelines.diffusion.catalog import HUB_ID, describe, read_index
from pipelines.diffusion.errors import (
    MissingPartError,
    ModelLoadError,
    ModelNotFoundError,
    PickledWeightsError,
)
from pipelines.diffusion.families.base import Family
from pipelines.diffusion.families.registry import family_loader

# What diffusers, transformers and safetensors raise over files that do not fit together.
_BROKEN = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_model(
    source: str | Path, device: str = "auto", dtype: str = "auto", threads: int | None = None
) -> Family:
    """Loads a model, safetensors only.

    ``source`` is a local diffusers folder or a hub id. ``device`` is "auto" (CUDA where there is
    one) or torch's name for one; ``dtype`` is "auto" (see docs/decisions/0003-dtype.md),
    "float32", "bfloat16" or "float16". ``threads`` sets how many CPU threads torch computes with,
    for the whole process. Raises ModelLoadError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    folder = find_folder(source)
    description = describe(folder)
    _check_weights(folder)
    chosen = choose_device(device)
    try:
        return family_loader(description.class_name)(folder, chosen, choose_dtype(dtype, chosen))
    except _BROKEN as error:
        raise ModelLoadError(
            f"{str(folder)!r} could not be loaded; its files do not fit together, or the device"
            f" is too small: {error}"
        ) from error


def find_folder(source: str | Path) -> Path:
    """The local folder of a model; one on the hub is downloaded to the hub's own cache."""
    folder = Path(source)
    if folder.is_dir() or not HUB_ID.fullmatch(str(source)):
        return folder
    try:
        return Path(DiffusionPipeline.download(str(source), use_safetensors=True))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"{str(source)!r} is neither a folder nor to be had from the hub: {error}"
        ) from error


def choose_device(name: str) -> torch.device:
    """Raises ModelLoadError for a device that this machine has not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelLoadError(
            f"There is no device {name!r}; use 'auto', 'cpu' or 'cuda'."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError("No CUDA device is to be seen here; use device 'cpu' or 'auto'.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """For "auto" bfloat16 on CUDA devices that compute with it, and float32 elsewhere."""
    if name == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in named:
        raise ModelLoadError(f"There is no dtype {name!r}; use 'auto' or {', '.join(named)}.")
    return named[name]


def _check_weights(folder: Path) -> None:
    """Every part that the index lists is there, and none has pickles for its only weights."""
    for part, origin in read_index(folder).items():
        if part.startswith("_") or not isinstance(origin, list) or origin[0] is None:
            continue
        path = folder / part
        if not path.is_dir():
            raise MissingPartError(f"{str(path)!r} is missing; copy or download the model again.")
        if not (path / "config.json").is_file() or any(path.glob("*.safetensors")):
            continue  # without a config.json it is no network: a tokenizer, a noise scheduler
        if any(file for pattern in _PICKLES for file in path.glob(pattern)):
            raise PickledWeightsError(
                f"{str(path)!r} has only pickled weights, which can run code; convert them to"
                " safetensors with save_pretrained(..., safe_serialization=True)."
            )
        raise MissingPartError(f"{str(path)!r} has no *.safetensors; download the model again.")
