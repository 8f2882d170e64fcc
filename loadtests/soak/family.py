"""Every process of a running `sfumato up`, by its role."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from loadtests.chaos.processes import Role

UP = "up"
POSTGRES = "postgres"
OTHERS = "others"
SUMMED = frozenset({POSTGRES, OTHERS})
"""Roles of many processes that come and go: one series for all of them."""
_TITLES = {
    Role.DIFFUSION: "diffusion",
    Role.POSTPROCESS: "post-process",
    Role.INGRESS: "ingress",
    Role.PROXY: "proxy",
    Role.HAPROXY_MANAGER: "haproxy manager",
    Role.CONTROLLER: "controller",
}
_PROGRAMS = {
    "postgres": POSTGRES,
    "valkey-server": "valkey",
    "haproxy": "haproxy",
    "gcs_server": "ray gcs",
    "raylet": "ray raylet",
}
_AGENTS = {
    "dashboard/dashboard.py": "ray dashboard",
    "dashboard/agent.py": "ray agent",
    "ray::DashboardAgent": "ray agent",
    "runtime_env/agent/main.py": "ray environment agent",
    "ray::RuntimeEnvAgent": "ray environment agent",
    "log_monitor.py": "ray log monitor",
    "autoscaler/_private/monitor.py": "ray monitor",
    "autoscaler/v2/monitor.py": "ray monitor",
}


def members(root: int) -> Iterator[tuple[str, psutil.Process]]:
    """Role and process of `up` and of all below it.

    Raises:
        NoSuchProcess: `up` itself has ended.
    """
    up = psutil.Process(root)
    yield UP, up
    for process in up.children(recursive=True):
        try:
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if command and command[0].strip():
            yield role_of(command), process


def role_of(command: list[str]) -> str:
    """What a process with this command line is."""
    title = command[0]
    for role, name in _TITLES.items():
        if title.startswith(role.value):
            return name
    # A Postgres backend's title is `postgres: …`.
    program = title.split(maxsplit=1)[0].rpartition("/")[2].rstrip(":")
    if program in _PROGRAMS:
        return _PROGRAMS[program]
    for agent, name in _AGENTS.items():
        if any(agent in part for part in command[:4]):
            return name
    return OTHERS


def postgres_sockets(root: int) -> str | None:
    """The folder of the sockets of the Postgres below `up`; None where it runs elsewhere."""
    option = "--unix_socket_directories="
    for role, process in members(root):
        if role == POSTGRES:
            for part in process.cmdline():
                if part.startswith(option):
                    return part.removeprefix(option)
    return None
