"""Processes that outlive a killed `up`: Ray's agents wait long for a head node that is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil

from serve.local.atomic_file import write_atomically

_END_TIMEOUT_S = 10.0


class Leftovers:
    """A note, under the data folder, of the processes that this one began.

    A pid alone may belong to somebody else by the time it is read; with the time at which its
    process began it names one process for ever.
    """

    def __init__(self, data_dir: Path) -> None:
        """Names the note; touches nothing."""
        self._note = data_dir / "run" / "processes.json"

    def note(self) -> None:
        """Write down this process's descendants as they are now.

        Raises:
            OSError: the data folder cannot be written.
        """
        family = psutil.Process().children(recursive=True)
        began = []
        for process in family:
            try:
                began.append([process.pid, process.create_time()])
            except psutil.NoSuchProcess:
                continue
        write_atomically(self._note, json.dumps(began))

    def end(self) -> int:
        """Kill what is left of those noted, and forget them; how many there were.

        Raises:
            OSError: the data folder cannot be written.
        """
        left = []
        for pid, created in self._noted():
            try:
                process = psutil.Process(pid)
                if process.create_time() == created:
                    process.kill()
                    left.append(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=_END_TIMEOUT_S)
        self._note.unlink(missing_ok=True)
        return len(left)

    def _noted(self) -> Iterator[tuple[int, float]]:
        """None where the note is torn, as one of an older version may be after a power cut.

        Nothing of those processes outlived that.
        """
        try:
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            yield from [(int(pid), float(created)) for pid, created in noted]
        except (FileNotFoundError, ValueError, TypeError):
            return
