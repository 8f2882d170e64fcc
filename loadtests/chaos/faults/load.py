"""Faults that come from outside: too many clients, clients that do not read, a redeploy."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from loadtests.chaos.faults.fault import Fault, Scene
from loadtests.chaos.processes import gcs_address
from loadtests.chaos.service import KEY

_READERS = 200
_AT_ONCE = 20
_CONNECT_TIMEOUT_S = 15.0
_BURST = 5.0
_REPOSITORY = Path(__file__).parents[3]


class Overload(Fault):
    """Five times the clients."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        return {"jobs": scene.load.burst(seconds, _BURST)}


class SilentReaders(Fault):
    """WebSockets that watch everything and read nothing."""

    def __init__(self) -> None:
        self._readers: list[ClientConnection] = []

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        url = scene.service.url.replace("http", "ws") + "/v1/events"
        until = asyncio.get_running_loop().time() + _CONNECT_TIMEOUT_S
        while len(self._readers) < _READERS and asyncio.get_running_loop().time() < until:
            await asyncio.gather(*(self._open(url) for _ in range(_AT_ONCE)))
        return {"readers": len(self._readers)}

    async def _open(self, url: str) -> None:
        try:
            reader = await connect(
                url,
                additional_headers={"Authorization": f"Bearer {KEY}"},
                max_queue=1,  # beyond it the client stops reading from its socket
                open_timeout=5,
                ping_interval=None,
            )
            self._readers.append(reader)
            await reader.send(json.dumps({"type": "watch_all"}))
        except (OSError, WebSocketException, TimeoutError):
            await asyncio.sleep(0.5)  # a kill may pass by meanwhile

    async def heal(self, scene: Scene) -> dict[str, Any]:
        for reader in self._readers:
            reader.transport.abort()
        return {}


class Redeploy(Fault):
    """Every replica is replaced by Ray Serve's rolling update."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.chaos.redeploy"),
            gcs_address(scene.service.up.pid),
            cwd=_REPOSITORY,
            env={**scene.service.up.environment, "PYTHONPATH": str(_REPOSITORY)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(120):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            output = b"It took too long."
        return {"status": process.returncode, "said": output.decode(errors="replace")[-2000:]}
