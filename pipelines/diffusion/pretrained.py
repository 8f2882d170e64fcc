"""From a folder to a diffusers pipeline in plain memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.diffusion.catalog import read_index
from pipelines.diffusion.errors import BrokenWeightsError
from pipelines.diffusion.weights import count_tensors


def read_pipeline(
    pipeline_class: Any,
    folder: Path,
    dtype: torch.dtype,
    without: Collection[str] = (),
    **parts: Any,
) -> Any:
    """Reads safetensors alone, from the disk alone, into the machine's own memory.

    ``parts`` replace what the folder names; of what it names ``without`` is not loaded.

    Raises BrokenWeightsError for a network that has more tensors than its files hold: diffusers
    and transformers warn, and leave random numbers in the others.
    """
    parts |= {name: None for name in read_index(folder) if name in without}
    pipeline = pipeline_class.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, **parts
    )
    for part, network in pipeline.components.items():
        if part not in parts and isinstance(network, nn.Module) and (folder / part).is_dir():
            _check_complete(folder / part, network)
    return pipeline


def _check_complete(folder: Path, network: nn.Module) -> None:
    """By number, since some names differ between the files and the network."""
    wanted = len({tensor.data_ptr() for tensor in network.state_dict().values()})  # tied ones once
    held = count_tensors(folder)
    if held < wanted:
        raise BrokenWeightsError(
            f"{str(folder)!r} holds {held} tensors of the {wanted} that its config.json asks for;"
            " copy its weights and config.json from one and the same model."
        )
