"""A server as a child process of its owner: its lock, log, start and end."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from serve.local.account import Account
from serve.local.data_folder import FolderLock
from serve.local.errors import NotInstalled, StartFailed, using_folder
from serve.local.process import command_line, noted_pid, wait_until

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 12
_BACKUP = (
    "Files of the database are damaged or gone: restore the data folder from a backup, or set"
    " SFUMATO_DATA_DIR to another folder to begin anew."
)
_CURES = (
    ("PG_CONTROL_VERSION", _BACKUP),
    (
        "incompatible with server",
        "The folder is of another version of Postgres: dump it with that version and restore it"
        " here, or set SFUMATO_DATA_DIR to another folder.",
    ),
    ("No space left on device", "Free disk space, and start again."),
    ("Cannot allocate memory", "Free memory, and start again."),
    ("pg_control", _BACKUP),
    ("checkpoint record", _BACKUP),
    ("not a valid data directory", _BACKUP),
    ("invalid page", _BACKUP),
)
"""Text in a server's log, and its cure; the first that is found counts."""
_USUAL_CURE = (
    "Free disk and memory are the usual cures; or run the server yourself and give its address as"
    " DATABASE_URL or REDIS_URL."
)


class LocalServer(ABC):
    """One server under a data folder, reachable only through a private socket.

    One process at a time owns it, by its `FolderLock`. Its log is `data_dir/logs/NAME.log`. The
    methods block. If it is started from the main thread, the kernel ends it when its owner is
    killed (Linux).
    """

    def __init__(self, name: str, data_dir: Path, stop_signals: Sequence[signal.Signals]) -> None:
        """``stop_signals`` end the server, the gentlest first."""
        self.name = name
        self._data_dir = data_dir.resolve()
        self._stop_signals = stop_signals
        self._log_path = self._data_dir / "logs" / f"{name}.log"
        self._log_start = 0
        self._lock = FolderLock(name, self._data_dir)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, for its clients."""

    @abstractmethod
    def _start(self) -> None:
        """Make the server's files, and start it; called with the lock held."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether the server answers."""

    @property
    def running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None and self.running else None

    def start(self) -> None:
        """Start the server. If it has no files yet, they are made first.

        Raises:
            AlreadyRunning: another process, or this object, runs it in this folder.
            NotInstalled: the wheel is missing.
            FolderUnreachable: the server's account cannot use the folder.
            StartFailed: with the server's last log lines.
        """
        self._lock.claim()
        try:
            with using_folder(self._data_dir):
                self._log_path.parent.mkdir(parents=True, exist_ok=True)
                self._log_path.touch()
                self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, with its connections, and wait until it has ended."""
        self._end()
        self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end_orphan(self, pid_file: Path, marker: str) -> None:
        """End the server that a killed owner left behind.

        ``pid_file`` is the server's own; ``marker`` is a path that only its command line has.
        """
        pid = noted_pid(pid_file)
        if pid is None or pid <= 0 or pid == os.getpid():
            return
        for stop_signal in self._stop_signals:
            if marker not in command_line(pid):
                return
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, stop_signal)
            wait_until(lambda: marker not in command_line(pid), seconds=10)

    def _run(
        self, command: Sequence[str], account: Account, paths: Sequence[Path], stdin: str = ""
    ) -> None:
        """Run a command that prepares the server's files, until it ends.

        Its first word is a full path; ``account`` must be able to reach ``paths``.

        Raises:
            StartFailed: its exit status is not 0.
        """
        child = self._spawn(command, account, paths, stdin=subprocess.PIPE)
        child.communicate(stdin.encode())
        if child.returncode != 0:
            raise self._failure(f"{Path(command[0]).name} failed")

    def _serve(
        self, command: Sequence[str], account: Account, paths: Sequence[Path], timeout_s: float
    ) -> None:
        """Start the server's own command, and return once the server is ready.

        Raises:
            StartFailed: it ended, or was not ready in time; then nothing is left running.
        """
        self._spawn(command, account, paths, stdin=subprocess.DEVNULL)
        wait_until(lambda: not self.running or self._ready(), timeout_s)
        if self.running and self._ready():
            return
        problem = f"was not ready after {timeout_s:.0f} s" if self.running else "ended at once"
        self._end()
        raise self._failure(f"the local {self.name} {problem}")

    def _spawn(
        self, command: Sequence[str], account: Account, paths: Sequence[Path], stdin: int
    ) -> subprocess.Popen[bytes]:
        options = account.arguments(paths)
        # The kernel watches the parent's thread, and only the main thread surely lives on.
        if threading.current_thread() is threading.main_thread():
            options += [f"--parent={os.getpid()}", f"--death-signal={self._stop_signals[0].value}"]
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_LIMIT_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C reaches the whole foreground group, and the server must
            # outlive the workers, which still commit while they drain.
            self._child = subprocess.Popen(  # noqa: S603 our own launcher, our own arguments
                [sys.executable, "-I", "-S", str(LAUNCHER), *options, "--", *command],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        return self._child

    def _end(self) -> None:
        if self._child is None:
            return
        for stop_signal in self._stop_signals:
            if not self.running:
                break
            self._child.send_signal(stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=20)
        self._child = None

    def _failure(self, problem: str) -> StartFailed:
        """An error with the problem, the end of the server's log, and the cure."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (nothing)"
        cure = next((cure for text, cure in _CURES if text in tail), _USUAL_CURE)
        return StartFailed(
            f"{problem}. Its last words:\n{tail}\nThe whole log is {self._log_path}. {cure}"
        )


def find_program(package: str, path: str, name: str, instead: str) -> Path:
    """The program that a wheel carries at ``path``, found without importing the wheel.

    Raises:
        NotInstalled: there is none; the message names what may be set ``instead``.
    """
    spec = importlib.util.find_spec(package)
    for location in spec.submodule_search_locations or () if spec is not None else ():
        program = Path(location) / path
        if program.exists():
            return program
    raise NotInstalled(
        f"No local {name} is installed: run `pip install 'sfumato[local]'`, or set {instead} that"
        " you run."
    )
