"""The service as a user starts it, with a proxy before each of its servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtests.chaos.picture_disk import PictureDisk
from loadtests.chaos.processes import Role, find
from loadtests.chaos.proxy import FaultProxy, tcp_port, unix_socket
from loadtests.up import Up, short_folder
from serve.local.port import free_port
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey

SOCKET = ".s.PGSQL.5432"
"""Of Postgres, in its folder of sockets."""
KEY = "chaos-key-of-24-characters"
_DISK_BYTES = 2 * 2**30
_WHOLE = {
    Role.DIFFUSION: 2,
    Role.POSTPROCESS: 2,
    Role.INGRESS: 2,
    Role.PROXY: 1,  # behind HAProxy it stands in reserve
    Role.CONTROLLER: 1,
}
_HAPROXY = {Role.HAPROXY: 1, Role.HAPROXY_MANAGER: 1}
_SETTINGS = {
    "SFUMATO_SCALING__DIFFUSION_MIN": "2",
    "SFUMATO_SCALING__DIFFUSION_MAX": "2",
    "SFUMATO_SCALING__POSTPROCESS_MIN": "2",
    "SFUMATO_SCALING__INGRESS_MIN": "2",
    "SFUMATO_WORKER__THREADS": "1",  # two replicas share the machine's cores
}


@dataclass
class Service:
    """A running `sfumato up`, its Postgres and Valkey, and the three proxies."""

    up: Up
    port: int
    postgres: LocalPostgres
    valkey: LocalValkey
    database_proxy: FaultProxy
    valkey_proxy: FaultProxy
    http_proxy: FaultProxy
    disk: PictureDisk
    proxied_port: int = 0
    whole: dict[Role, int] = field(default_factory=lambda: dict(_WHOLE))
    """How many processes of each role there are when nothing is wrong."""

    @property
    def folder(self) -> Path:
        return self.up.folder

    @property
    def data(self) -> Path:
        return self.up.data

    @property
    def pictures(self) -> Path:
        return self.data / "pictures"

    @property
    def postgres_sockets(self) -> Path:
        """Of the Postgres that takes writes: a standby may have been promoted."""
        return self.postgres.sockets

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

    def processes(self, *roles: Role) -> list[psutil.Process]:
        """Those that live, of any of the roles."""
        return [process for role in roles for process in find(self.up.pid, role)]


@asynccontextmanager
async def running(settings: Mapping[str, str]) -> AsyncIterator[Service]:
    """The whole service in a fresh folder, ready; ended and removed afterwards.

    ``settings`` are environment variables beyond those that chaos needs.
    """
    folder = short_folder("chaos")
    async with AsyncExitStack() as parts:
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        data, port = folder / "data", free_port()
        postgres = parts.enter_context(LocalPostgres(data))
        valkey = parts.enter_context(LocalValkey(data))
        service = Service(
            up=Up(folder),
            port=port,
            postgres=postgres,
            valkey=valkey,
            database_proxy=FaultProxy(unix_socket(postgres.sockets / SOCKET), postgres=True),
            valkey_proxy=FaultProxy(unix_socket(data / "run" / "valkey" / "valkey.sock")),
            http_proxy=FaultProxy(tcp_port(port)),
            disk=PictureDisk(data / "pictures", _DISK_BYTES),
        )
        parts.callback(lambda: service.postgres.stop())
        service.disk.mount()
        parts.callback(service.disk.unmount)
        for proxy in (service.database_proxy, service.valkey_proxy, service.http_proxy):
            parts.push_async_callback(proxy.close)
        database_port = await service.database_proxy.start()
        valkey_port = await service.valkey_proxy.start()
        service.proxied_port = await service.http_proxy.start()
        service.up.environment = {
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
            await service.up.start()
            if service.processes(Role.HAPROXY):
                service.whole |= _HAPROXY
            yield service
        finally:
            await service.up.stop()
