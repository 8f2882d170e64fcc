"""Small disks of their own, to be filled, closed and pulled out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(folder: Path, options: str) -> None:
    """Mounts a tmpfs, or skips the test where this account or machine can't."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk takes root")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


def unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, options: str = "size=64k") -> Iterator[Path]:
    """A tmpfs on the new folder, gone with the block if it isn't before."""
    folder.mkdir()
    mount(folder, options)
    try:
        yield folder
    finally:
        if folder.is_mount():
            unmount(folder)


def fill(folder: Path) -> Path:
    """Takes all the room that is left; the file to delete for some."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast
