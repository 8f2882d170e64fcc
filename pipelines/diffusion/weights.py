"""Weights on the disk: only safetensors are read."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipelines.diffusion.catalog import is_part, read_index, read_json
from pipelines.diffusion.errors import BrokenWeightsError, MissingPartError, PickledWeightsError

# What diffusers, transformers and safetensors raise over files that do not fit together.
BROKEN_FILES = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DIFFUSERS, _TRANSFORMERS = "diffusion_pytorch_model", "model"
_VARIANT = re.compile(r"\.(?P<variant>[a-z]\w*)(-\d+-of-\d+)?\.safetensors")
_PREFERRED_VARIANTS = ("fp32", "bf16", "fp16")


def check_weights(folder: Path) -> None:
    """That a network's weights are there, readable and safe to read.

    Raises MissingPartError, PickledWeightsError or BrokenWeightsError.
    """
    for file in weight_files(folder):
        _check_header(file)


def variant_of(folder: Path) -> str | None:
    """The variant that a network is read by: None where it has weights without one.

    Among several it is that of the most digits.
    """
    stem = _stem(folder)
    if _files(folder, stem, None):
        return None
    ends = (file.name.removeprefix(stem) for file in folder.glob(f"{stem}*.safetensors"))
    variants = {found["variant"] for found in map(_VARIANT.fullmatch, ends) if found}
    preferred = (variant for variant in _PREFERRED_VARIANTS if variant in variants)
    return next(preferred, min(variants, default=None))


def weight_files(folder: Path) -> list[Path]:
    """The files that a network's weights are read from.

    Raises MissingPartError or PickledWeightsError if there are none, or a shard is missing.
    """
    stem = _stem(folder)
    files = _files(folder, stem, variant_of(folder))
    if not files and any(file for pattern in _PICKLES for file in folder.glob(pattern)):
        raise PickledWeightsError(
            f"{str(folder)!r} has only pickled weights, which can run code; convert them to"
            " safetensors with save_pretrained(..., safe_serialization=True)."
        )
    if not files:
        raise MissingPartError(
            f"{str(folder)!r} has no {stem}.safetensors; download the model again."
        )
    for file in files:
        if not file.is_file():
            raise MissingPartError(
                f"{str(file)!r} is missing, a shard of the weights; copy or download it again."
            )
    return files


def count_tensors(folder: Path) -> int:
    """How many a network's files hold."""
    total = 0
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            total += len(tensors.keys())
    return total


def weights_bytes(model: Path, dtype: torch.dtype, without: Collection[str] = ()) -> int:
    """What the networks of a model folder but ``without`` take once loaded in ``dtype``."""
    elements = 0
    for name, origin in read_index(model).items():
        folder = model / name
        if name in without or not is_part(name, origin) or not any(folder.glob("*.safetensors")):
            continue
        for file in weight_files(folder):
            with safe_open(file, framework="pt") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
            elements += sum(math.prod(shape) for shape in shapes)
    return elements * dtype.itemsize


def _stem(folder: Path) -> str:
    """How the library whose configuration it is names its weights."""
    return _DIFFUSERS if "_class_name" in read_json(folder / "config.json") else _TRANSFORMERS


def _files(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """Of a whole file and shards diffusers prefers the shards, transformers the file."""
    infix = f".{variant}" if variant else ""
    file = folder / f"{stem}{infix}.safetensors"
    index = folder / f"{stem}.safetensors.index{infix}.json"
    if index.is_file() and (stem == _DIFFUSERS or not file.is_file()):
        return [folder / shard for shard in sorted(set(_weight_map(index).values()))]
    return [file] if file.is_file() else []


def _weight_map(index: Path) -> dict[str, Any]:
    names: dict[str, Any] = read_json(index).get("weight_map", {})
    return names


def _check_header(file: Path) -> None:
    """It says how long the file is, so that a file cut short is told without reading it."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise BrokenWeightsError(
            f"{str(file)!r} is cut short or is not safetensors; copy or download it again: {error}."
        ) from error
