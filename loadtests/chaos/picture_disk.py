"""Where the pictures lie during a run: a place that can run full, or go away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SPARE_BYTES = 8 * 1024


class PictureDisk:
    """A small file system of its own for the pictures, where this process may mount one.

    Without the right to mount, the folder stays a plain one, and the fault takes it away instead.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self._folder = folder
        self._size_bytes = size_bytes
        self.mounted = False

    def mount(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_bytes},mode=0755"
        self.mounted = _run("mount", "-t", "tmpfs", "-o", options, "none", str(self._folder))

    def unmount(self) -> None:
        if self.mounted:
            self.mounted = not _run("umount", "-l", str(self._folder))

    def fill(self) -> str:
        """No room for another picture from now on; how that was done."""
        if not self.mounted:
            self._folder.rename(self._away)
            self._folder.touch()
            return "away"
        room = os.statvfs(self._folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        _run("mount", "-o", f"remount,size={used + _SPARE_BYTES}", str(self._folder))
        return "full"

    def free(self) -> None:
        if self.mounted:
            _run("mount", "-o", f"remount,size={self._size_bytes}", str(self._folder))
        elif self._away.exists():
            self._folder.unlink()
            self._away.rename(self._folder)

    @property
    def _away(self) -> Path:
        return self._folder.with_name("pictures.away")


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
