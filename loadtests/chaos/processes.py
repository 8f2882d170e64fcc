"""The processes of a running service, found by what they do."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path

import psutil

_INITIALISING = "initialize_and_get_metadata"


class Role(StrEnum):
    """Ray Serve's kinds of processes; the value is how their title begins, or a program's name."""

    DIFFUSION = "ray::ServeReplica:sfumato:Diffusion"
    POSTPROCESS = "ray::ServeReplica:sfumato:Postprocess"
    INGRESS = "ray::ServeReplica:sfumato:Ingress"
    PROXY = "ray::ProxyActor"
    HAPROXY = "haproxy"
    HAPROXY_MANAGER = "ray::HAProxyManager"
    CONTROLLER = "ray::ServeController"


def role_of(command: list[str]) -> Role | None:
    """What a process with this command line is, if it is any of them."""
    title = next(iter(command), "")
    if Path(title).name == Role.HAPROXY.value:
        return Role.HAPROXY
    return next((role for role in Role if title.startswith(role.value)), None)


def find(root: int, role: Role) -> list[psutil.Process]:
    """The living processes of the role below process ``root``, the oldest first."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        try:
            if role_of(process.cmdline()) is role:
                found.append((process.create_time(), process.pid, process))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return [process for *_, process in sorted(found, key=lambda entry: entry[:2])]


def ready(root: int) -> Counter[Role]:
    """How many of each role there are that have come up; a replica's title tells its work."""
    counts: Counter[Role] = Counter()
    for process in psutil.Process(root).children(recursive=True):
        try:
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        role = role_of(command)
        if role is not None and _INITIALISING not in command[0]:
            counts[role] += 1
    return counts


def gcs_address(root: int) -> str:
    """Where the Ray below process ``root`` can be joined."""
    return _argument(root, "--gcs-address=")


def ray_logs(root: int) -> Path:
    """The folder that the Ray below process ``root`` logs into."""
    return Path(_argument(root, "--log_dir="))


def _argument(root: int, name: str) -> str:
    for process in psutil.Process(root).children(recursive=True):
        for part in process.cmdline():
            if part.startswith(name):
                return part.removeprefix(name)
    raise LookupError(f"Process {root} runs no Ray.")
