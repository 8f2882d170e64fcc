"""Faults of the service's own processes: killed, or frozen for a while."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

from loadtests.chaos.faults.fault import Fault, Scene
from loadtests.chaos.processes import Role, role_of
from loadtests.chaos.snapshot import connect, running_images

_FIND_TIMEOUT_S = 20.0
_BUSY_TIMEOUT_S = 5.0
DOORS = (Role.HAPROXY, Role.HAPROXY_MANAGER, Role.PROXY)
"""What requests come in by, as far as it is there: HAProxy, or Serve's own proxy."""


async def pick(scene: Scene, roles: Sequence[Role]) -> psutil.Process | None:
    """One process of these roles; None where none has come up in time."""
    until = asyncio.get_running_loop().time() + _FIND_TIMEOUT_S
    while not (found := scene.service.processes(*roles)):
        if asyncio.get_running_loop().time() > until:
            return None
        await asyncio.sleep(0.2)
    return scene.random.choice(found)


class Kill(Fault):
    """SIGKILL of one process; Ray Serve starts another."""

    roles: tuple[Role, ...]

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        process = await pick(scene, self.roles)
        role = self.roles[0]
        if process is None:
            return {"killed": None, "role": role.name.lower()}
        with suppress(psutil.NoSuchProcess):
            role = role_of(process.cmdline()) or role
            process.kill()
        return {"killed": process.pid, "role": role.name.lower()}


class KillDiffusion(Kill):
    """Falls while pictures are drawn, if any are within a while."""

    roles = (Role.DIFFUSION,)

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        connection = await connect(scene.service.postgres_sockets)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_TIMEOUT_S):
                while not await running_images(connection):
                    await asyncio.sleep(0.02)
        connection.terminate()
        return await super().inject(scene, seconds)


class KillPostprocess(Kill):
    roles = (Role.POSTPROCESS,)


class KillIngress(Kill):
    roles = (Role.INGRESS,)


class KillProxy(Kill):
    roles = DOORS


class KillController(Kill):
    roles = (Role.CONTROLLER,)


class Freeze(Fault):
    """SIGSTOP of one process, and SIGCONT: it goes on as if no time had passed."""

    roles: tuple[Role, ...]

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        self._process = await pick(scene, self.roles)
        if self._process is None:
            return {"frozen": None}
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGSTOP)
        return {"frozen": self._process.pid}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(signal.SIGCONT)
        return {}


class FreezeDiffusion(Freeze):
    roles = (Role.DIFFUSION,)


class FreezePostprocess(Freeze):
    roles = (Role.POSTPROCESS,)


class FreezeIngress(Freeze):
    roles = (Role.INGRESS,)


class FreezeProxy(Freeze):
    roles = DOORS


class FreezeController(Freeze):
    roles = (Role.CONTROLLER,)
