"""Faults of the service's own processes: killed, or frozen for a while."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Any

import psutil

from loadtests.chaos.faults.fault import Fault, Scene
from loadtests.chaos.processes import Role
from loadtests.chaos.snapshot import connect, running_images

_FIND_TIMEOUT_S = 20.0
_BUSY_TIMEOUT_S = 5.0


async def pick(scene: Scene, role: Role) -> psutil.Process | None:
    """One process of the role; None where none has come up in time."""
    until = asyncio.get_running_loop().time() + _FIND_TIMEOUT_S
    while not (found := scene.service.processes(role)):
        if asyncio.get_running_loop().time() > until:
            return None
        await asyncio.sleep(0.2)
    return scene.random.choice(found)


class Kill(Fault):
    """SIGKILL of one process; Ray Serve starts another."""

    role: Role

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        process = await pick(scene, self.role)
        if process is None:
            return {"killed": None, "role": self.role.name.lower()}
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return {"killed": process.pid, "role": self.role.name.lower()}


class KillDiffusion(Kill):
    """Falls while pictures are drawn, if any are within a while."""

    role = Role.DIFFUSION

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        connection = await connect(scene.service.postgres_sockets)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_TIMEOUT_S):
                while not await running_images(connection):
                    await asyncio.sleep(0.02)
        connection.terminate()
        return await super().inject(scene, seconds)


class KillPostprocess(Kill):
    role = Role.POSTPROCESS


class KillIngress(Kill):
    role = Role.INGRESS


class KillProxy(Kill):
    role = Role.PROXY


class KillController(Kill):
    role = Role.CONTROLLER


class Freeze(Fault):
    """SIGSTOP of one process, and SIGCONT: it goes on as if no time had passed."""

    role: Role

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        self._process = await pick(scene, self.role)
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
    role = Role.DIFFUSION


class FreezePostprocess(Freeze):
    role = Role.POSTPROCESS


class FreezeIngress(Freeze):
    role = Role.INGRESS


class FreezeProxy(Freeze):
    role = Role.PROXY


class FreezeController(Freeze):
    role = Role.CONTROLLER
