"""The service as a user starts it, with a proxy before each of its servers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtests.chaos.picture_disk import PictureDisk
from loadtests.chaos.processes import Role, find
from loadtests.chaos.proxy import FaultProxy, tcp_port, unix_socket
from serve.local.leftovers import Leftovers
from serve.local.postgres import LocalPostgres
from serve.local.process import LAUNCHER
from serve.local.valkey import LocalValkey

KEY = "chaos-key-of-24-characters"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 120.0
_DISK_BYTES = 2 * 2**30
_COMMAND = str(Path(sys.executable).with_name("sfumato"))
WHOLE = {
    Role.DIFFUSION: 2,
    Role.POSTPROCESS: 2,
    Role.INGRESS: 2,
    Role.PROXY: 1,
    Role.CONTROLLER: 1,
}
"""How many processes of each role there are when nothing is wrong."""
_SETTINGS = {
    "SFUMATO_SCALING__DIFFUSION_MIN": "2",
    "SFUMATO_SCALING__DIFFUSION_MAX": "2",
    "SFUMATO_SCALING__POSTPROCESS_MIN": "2",
    "SFUMATO_SCALING__INGRESS_MIN": "2",
    "SFUMATO_WORKER__THREADS": "1",  # two replicas share the machine's cores
}


class StartFailed(Exception):
    """`sfumato up` did not come up; the message is what it said."""


@dataclass
class Service:
    """A running `sfumato up`, its Postgres and Valkey, and the three proxies."""

    folder: Path
    port: int
    postgres: LocalPostgres
    valkey: LocalValkey
    database_proxy: FaultProxy
    valkey_proxy: FaultProxy
    http_proxy: FaultProxy
    disk: PictureDisk
    environment: dict[str, str]
    up: subprocess.Popen[bytes] = field(init=False)
    proxied_port: int = 0

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pictures(self) -> Path:
        return self.data / "pictures"

    @property
    def postgres_sockets(self) -> Path:
        return self.data / "run" / "postgres"

    @property
    def valkey_socket(self) -> Path:
        return self.data / "run" / "valkey" / "valkey.sock"

    @property
    def url(self) -> str:
        """Past the proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def proxied_url(self) -> str:
        """Through the proxy, as the clients go."""
        return f"http://127.0.0.1:{self.proxied_port}"

    @property
    def output(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    def processes(self, role: Role) -> list[psutil.Process]:
        return find(self.up.pid, role)

    async def start_up(self) -> None:
        """Run `sfumato up` and wait for its word that it is ready.

        Raises:
            StartFailed: it ended, or took too long.
        """
        self.up = self._spawn()
        until = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while "Sfumato is ready" not in self.output:
            if self.up.poll() is not None or asyncio.get_running_loop().time() > until:
                raise StartFailed(f"`sfumato up` did not start:\n{self.output}")
            await asyncio.sleep(0.2)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self.folder / "up.log").open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(LAUNCHER)),
                    # It ends with this process, even if that is killed.
                    *(f"--parent={os.getpid()}", f"--death-signal={signal.SIGINT.value}"),
                    *("--", _COMMAND, "up"),
                ],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the driver, which stops it in order
            )

    async def stop_up(self) -> int:
        """End it, with everything that it began; its exit status."""
        if self.up.poll() is None:
            family = psutil.Process(self.up.pid).children(recursive=True)
            for process in family:  # what stands still cannot end
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
            self.up.send_signal(signal.SIGINT)
            try:
                await asyncio.to_thread(self.up.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        Leftovers(self.data).end()
        return self.up.returncode


@asynccontextmanager
async def running(settings: Mapping[str, str]) -> AsyncIterator[Service]:
    """The whole service in a fresh folder, ready; ended and removed afterwards.

    ``settings`` are environment variables beyond those that chaos needs.
    """
    folder = _short_folder()
    async with AsyncExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        data, port = folder / "data", _free_port()
        postgres = parts.enter_context(LocalPostgres(data))
        valkey = parts.enter_context(LocalValkey(data))
        service = Service(
            folder=folder,
            port=port,
            postgres=postgres,
            valkey=valkey,
            database_proxy=FaultProxy(
                unix_socket(data / "run" / "postgres" / ".s.PGSQL.5432"), postgres=True
            ),
            valkey_proxy=FaultProxy(unix_socket(data / "run" / "valkey" / "valkey.sock")),
            http_proxy=FaultProxy(tcp_port(port)),
            disk=PictureDisk(data / "pictures", _DISK_BYTES),
            environment={},
        )
        service.disk.mount()
        parts.callback(service.disk.unmount)
        for proxy in (service.database_proxy, service.valkey_proxy, service.http_proxy):
            parts.push_async_callback(proxy.close)
        database_port = await service.database_proxy.start()
        valkey_port = await service.valkey_proxy.start()
        service.proxied_port = await service.http_proxy.start()
        service.environment = {
            **os.environ,
            **_SETTINGS,
            **settings,
            "DATABASE_URL": f"postgresql://sfumato@127.0.0.1:{database_port}/sfumato?ssl=disable",
            "REDIS_URL": f"redis://127.0.0.1:{valkey_port}",
            "SFUMATO_DATA_DIR": str(data),
            "SFUMATO_PORT": str(service.port),
            "SFUMATO_API_KEY": KEY,
            "PYTHONUNBUFFERED": "1",
        }
        try:
            await service.start_up()
            yield service
        finally:
            await service.stop_up()


def _short_folder() -> Path:
    """With a path that sockets fit in, and that Postgres' own account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sfumato-chaos-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
