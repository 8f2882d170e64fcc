"""From a folder to a diffusers pipeline in plain memory."""

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
    dtype: torch.dtype,
    without: Collection[str] = (),
    **parts: Any,
) -> Any:
    """Reads each part into plain memory by itself, so that one that cannot be loaded is named.

    ``parts`` replace what the folder names; of what it names ``without`` is not loaded. Raises
    ModelLoadError as ``Part.load`` does.
    """
    parts |= {name: None for name in read_index(folder) if name in without}
    parts |= {part.folder.name: part.load(dtype) for part in parts_of(folder, parts)}
    return pipeline_class.from_pretrained(folder, local_files_only=True, **parts)
