"""From a folder to a diffusers pipeline on its device."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from pipelines.diffusion.catalog import read_index
from pipelines.diffusion.parts import parts_of


def read_pipeline(
    pipeline_class: Any,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    without: Collection[str] = (),
    **parts: Any,
) -> Any:
    """Reads each part by itself, so that one that cannot be loaded is known by name.

    ``parts`` replace what the folder names; of what it names ``without`` is not loaded. Raises
    ModelLoadError as ``Part.load`` does.
    """
    parts |= {name: None for name in read_index(folder) if name in without}
    parts |= {part.folder.name: part.load(dtype) for part in parts_of(folder, parts)}
    pipeline = pipeline_class.from_pretrained(folder, local_files_only=True, **parts)
    return pipeline.to(device)
