"""Processes of this machine: how to recognise one, and how to end what a killed `up` left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from serve.local.data_folder import write_atomically
from serve.local.errors import using_folder

_END_TIMEOUT_S = 10.0


def command_line(pid: int) -> str:
    """The arguments that a process was started with; empty if it is dead or a zombie."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except (psutil.Error, ValueError):
        return ""


def noted_pid(pid_file: Path) -> int | None:
    """The pid in a server's own pid file: None without a file, 0 in a torn one."""
    try:
        return int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
    except FileNotFoundError:
        return None
    except (ValueError, IndexError):
        return 0


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll every 10 ms; whether the condition held in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Leftovers:
    """The note `data_dir/run/processes.json` of the processes that `up` began.

    Some of them outlive a killed `up`: Ray's agents wait long for a head node that is gone. The
    note has each pid with the time at which its process began, since another process may get the
    same pid later.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._note = data_dir / "run" / "processes.json"

    def note(self) -> None:
        """Write down this process's descendants as they are now.

        Raises:
            FolderUnreachable: the data folder cannot be written.
        """
        began = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                began.append([process.pid, process.create_time()])
        with using_folder(self._data_dir):
            write_atomically(self._note, json.dumps(began))

    def end(self) -> int:
        """Kill those of the note that still run, and remove the note; how many were killed.

        Raises:
            FolderUnreachable: the data folder cannot be written.
        """
        killed = []
        with using_folder(self._data_dir):
            try:
                noted = json.loads(self._note.read_text(encoding="utf-8"))
                began = [(int(pid), float(created)) for pid, created in noted]
            except (FileNotFoundError, ValueError, TypeError):
                began = []  # a note that a power cut tore: none of the processes outlived that
            for pid, created in began:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(pid)
                    if process.create_time() == created:
                        process.kill()
                        killed.append(process)
            psutil.wait_procs(killed, timeout=_END_TIMEOUT_S)
            self._note.unlink(missing_ok=True)
        return len(killed)
