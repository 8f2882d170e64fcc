"""The service under load: one of its own, or one that runs already."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import psutil

from loadtests.events.service import Service
from loadtests.up import Up, short_folder
from serve.local.port import free_port

_KEY = "soak-key-of-24-characters"
_SETTINGS = {
    "SFUMATO_SCALING__DIFFUSION_MIN": "1",
    "SFUMATO_SCALING__DIFFUSION_MAX": "1",
    "SFUMATO_SCALING__POSTPROCESS_MIN": "2",
    "SFUMATO_SCALING__POSTPROCESS_MAX": "2",
    "SFUMATO_SCALING__INGRESS_MIN": "2",
    "SFUMATO_SCALING__INGRESS_MAX": "2",
}
"""No replica comes or goes, so that each has one series."""


@asynccontextmanager
async def started() -> AsyncIterator[tuple[Service, int]]:
    """`sfumato up` in a fresh folder, ended and removed afterwards; and its process id.

    Raises:
        StartFailed: it did not come up.
    """
    up, port = Up(short_folder("soak")), free_port()
    up.environment = {
        **{name: value for name, value in os.environ.items() if not _is_setting(name)},
        **_SETTINGS,
        "SFUMATO_DATA_DIR": str(up.data),
        "SFUMATO_PORT": str(port),
        "SFUMATO_API_KEY": _KEY,
        "PYTHONUNBUFFERED": "1",
    }
    try:
        try:
            await up.start()
            yield Service(f"http://127.0.0.1:{port}", _KEY), up.pid
        finally:
            await up.stop()
    finally:
        shutil.rmtree(up.folder, ignore_errors=True)


def _is_setting(name: str) -> bool:
    """Whether the variable would make the service another one than the one described."""
    return name.startswith("SFUMATO_") or name in ("DATABASE_URL", "REDIS_URL")


def find_up(url: str) -> int:
    """The process id of the `sfumato up` that listens there.

    Raises:
        LookupError: none on this machine does.
    """
    port = urlsplit(url).port
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr
        if listens and listens.port == port and connection.pid is not None:
            for ancestor in psutil.Process(connection.pid).parents():
                if ancestor.cmdline()[-1:] == ["up"]:
                    return ancestor.pid
    raise LookupError(
        f"No `sfumato up` of this machine listens on port {port}: start one, or leave out --url."
    )
