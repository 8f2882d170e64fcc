"""Weights on the disk: only safetensors are read."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipelines.diffusion.catalog import read_json
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
_VARIANT = re.compile(r"\.(?P<variant>[a-z]\w*)(-\d+-of-\d+)?\.safetensors$")


def check_weights(folder: Path) -> None:
    """That a network's weights are there, readable and safe to read.

    Raises MissingPartError, PickledWeightsError or BrokenWeightsError.
    """
    files = list(folder.glob("*.safetensors"))
    if not files and any(file for pattern in _PICKLES for file in folder.glob(pattern)):
        raise PickledWeightsError(
            f"{str(folder)!r} has only pickled weights, which can run code; convert them to"
            " safetensors with save_pretrained(..., safe_serialization=True)."
        )
    if not files:
        raise MissingPartError(f"{str(folder)!r} has no *.safetensors; download the model again.")
    _check_variant(folder, files)
    for file in _files_in_use(folder):
        _check_header(file)


def count_tensors(folder: Path) -> int:
    """How many a network's files hold."""
    total = 0
    for file in _files_in_use(folder):
        with safe_open(file, framework="pt") as tensors:
            total += len(tensors.keys())
    return total


def weights_bytes(model: Path, dtype: torch.dtype, without: Collection[str] = ()) -> int:
    """What the networks of a model folder but ``without`` take once loaded in ``dtype``."""
    elements = 0
    for config in model.glob("*/config.json"):
        if config.parent.name in without:
            continue
        for file in _files_in_use(config.parent):
            with safe_open(file, framework="pt") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
            elements += sum(math.prod(shape) for shape in shapes)
    return elements * dtype.itemsize


def _check_variant(folder: Path, files: list[Path]) -> None:
    found = [_VARIANT.search(file.name) for file in files]
    variants = {each["variant"] for each in found if each}
    if variants and all(found):
        raise MissingPartError(
            f"{str(folder)!r} has its weights only as variant {min(variants)!r}; load them once"
            f" with variant={min(variants)!r} and save them without."
        )


def _files_in_use(folder: Path) -> Iterator[Path]:
    """Those that a loader would read: the shards of an index, else whatever has no variant."""
    shards: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        shards |= set(_weight_map(index).values())
    for shard in sorted(shards):
        if not (folder / shard).is_file():
            raise MissingPartError(
                f"{str(folder / shard)!r} is missing, a shard of the weights; copy or download it"
                " again."
            )
        yield folder / shard
    if not shards:
        yield from (each for each in folder.glob("*.safetensors") if not _VARIANT.search(each.name))


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
