"""One server as a child process: its lock, log, start, and end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from serve.local.account import Account
from serve.local.errors import FolderUnreachable, StartFailed
from serve.local.lock import FolderLock

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
"""What to do about it by what a server says; the first that fits."""
_USUAL_CURE = (
    "Free disk and memory are the usual cures; or run the server yourself and give its address as"
    " DATABASE_URL or REDIS_URL."
)


class ServerProcess:
    """A server that one process at a time runs in one data folder.

    Its `FolderLock` taken, somebody runs the server; the lock free and the server alive, its owner
    was killed, and it is ours to end.
    """

    def __init__(self, name: str, data_dir: Path, stop_signals: Sequence[signal.Signals]) -> None:
        """Describes the server; touches nothing.

        Args:
            name: What the lock and the log are called.
            data_dir: Sfumato's data folder; the lock goes to `run/`, the log to `logs/`.
            stop_signals: How to end the server, the gentlest first.
        """
        self.name = name
        self.data_dir = data_dir
        self.log_path = data_dir / "logs" / f"{name}.log"
        self.stop_signals = tuple(stop_signals)
        self._lock = FolderLock(name, data_dir)
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self._child is not None and self._child.poll() is None

    def claim(self) -> None:
        """Takes the lock.

        Raises:
            AlreadyRunning: somebody has it.
            FolderUnreachable: we may not write in the data folder.
        """
        self._lock.claim()
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            self.log_path.touch()
        except OSError as error:
            self._lock.release()
            raise FolderUnreachable.to_us(error, self.data_dir) from error

    def end_orphan(self, pid_file: Path, marker: str) -> None:
        """Ends the server that a killed owner left behind. Call with the lock held.

        Args:
            pid_file: The server's own pid file; its first line is the pid.
            marker: A path that stands in the command line of our server and of no other.
        """
        try:
            pid = int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        if pid <= 0 or pid == os.getpid():
            return
        for stop_signal in self.stop_signals:
            if marker not in command_line(pid):
                return
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(pid, stop_signal)
            wait_until(lambda: marker not in command_line(pid), seconds=10)

    def run(
        self, command: Sequence[str], account: Account, paths: Sequence[Path], typed: str = ""
    ) -> None:
        """Runs a command of the server's to its end, for instance one that prepares its files.

        Args:
            command: The program, by its full path, and its arguments.
            account: Who it runs as.
            paths: What that account must be able to reach.
            typed: What the program reads from its standard input.

        Raises:
            StartFailed: it ended badly.
        """
        child = self._spawn(command, account, paths, stdin=subprocess.PIPE)
        child.communicate(typed.encode())
        if child.returncode != 0:
            raise self.failure(f"{Path(command[0]).name} failed")

    def start(
        self,
        command: Sequence[str],
        account: Account,
        paths: Sequence[Path],
        ready: Callable[[], bool],
        timeout_s: float,
    ) -> None:
        """Starts the server and returns once `ready()` says so.

        Raises:
            StartFailed: it ended, or wasn't ready in time; then nothing is left running.
        """
        self._spawn(command, account, paths, stdin=subprocess.DEVNULL)
        wait_until(lambda: not self.running or ready(), timeout_s)
        if self.running and ready():
            return
        what = f"was not ready after {timeout_s:.0f} s" if self.running else "ended at once"
        self.end()
        raise self.failure(f"the local {self.name} {what}")

    def end(self) -> None:
        """Ends the server, gently first; nothing happens where none runs."""
        if self._child is None:
            return
        for stop_signal in self.stop_signals:
            if not self.running:
                break
            self._child.send_signal(stop_signal)
            try:
                self._child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                continue
        self._child = None

    def release(self) -> None:
        """Gives the lock back."""
        self._lock.release()

    def failure(self, what: str) -> StartFailed:
        """An error that says what happened, what the server said last, and where to read on."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (nothing)"
        cure = next((cure for said, cure in _CURES if said in tail), _USUAL_CURE)
        return StartFailed(
            f"{what}. Its last words:\n{tail}\nThe whole log is {self.log_path}. {cure}"
        )

    def _spawn(
        self, command: Sequence[str], account: Account, paths: Sequence[Path], stdin: int
    ) -> subprocess.Popen[bytes]:
        options = account.arguments(paths)
        # The kernel watches the parent's *thread*; only the main thread surely lives long enough.
        if threading.current_thread() is threading.main_thread():
            options += [f"--parent={os.getpid()}", f"--death-signal={self.stop_signals[0].value}"]
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as log:
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


def command_line(pid: int) -> str:
    """The arguments that a process was started with; empty where it is dead or a zombie."""
    if not Path("/proc/self/cmdline").exists():  # macOS
        listing = subprocess.run(  # noqa: S603
            ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return listing.stdout
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace")


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Polls every 10 ms; whether the condition held in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
