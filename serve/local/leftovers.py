"""Processes that outlive a killed `up`: Ray's agents wait long for a head node that is gone."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

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
        """Write down this process's descendants as they are now."""
        family = psutil.Process().children(recursive=True)
        began = []
        for process in family:
            try:
                began.append([process.pid, process.create_time()])
            except psutil.NoSuchProcess:
                continue
        self._note.write_text(json.dumps(began))

    def end(self) -> int:
        """Kill what is left of those noted, and forget them; how many there were."""
        if not self._note.exists():
            return 0
        left = []
        for pid, created in json.loads(self._note.read_text()):
            try:
                process = psutil.Process(pid)
                if process.create_time() == created:
                    process.kill()
                    left.append(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=_END_TIMEOUT_S)
        self._note.unlink()
        return len(left)
