"""A file that a command writes at its end, checked before it begins."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def output_file(path: Path | None) -> Path | None:
    """A callback of typer's: refuses a file that could not be written.

    Raises:
        typer.BadParameter: it is a folder, its folder is missing, or we may not write it.
    """
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}; make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written; name a file of your own.")
    return path
