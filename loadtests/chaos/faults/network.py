"""Faults of connections, made by the proxies."""

from __future__ import annotations

from typing import Any

from loadtests.chaos.faults.fault import Fault, Scene

_LATENCY_S = 2.0
_CUT_WITHIN_BYTES = 2000
_COMMITS = (3, 10)


class SlowDatabase(Fault):
    """Two seconds more on every message to Postgres and back."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        scene.service.database_proxy.delay_s = _LATENCY_S
        return {"delay_s": _LATENCY_S}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        scene.service.database_proxy.delay_s = 0.0
        return {}


class StallDatabase(Fault):
    """Nothing passes, and nothing is closed: the host is gone without a word."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        scene.service.database_proxy.stall()
        return {}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        scene.service.database_proxy.resume()
        return {}


class ResetDatabase(Fault):
    """Every connection to Postgres is reset, whatever it was about."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        return {"connections": scene.service.database_proxy.reset()}


class BlackHoleDatabase(Fault):
    """Every open connection to Postgres passes nothing more, for good; new ones work."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        return {"connections": scene.service.database_proxy.freeze()}


class CutDatabase(Fault):
    """Every connection to Postgres ends, and every new one after some bytes, in its start or later.

    The server answers a start-up with some 400 bytes.
    """

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        proxy = scene.service.database_proxy
        proxy.new_end_after = scene.random.randrange(1, _CUT_WITHIN_BYTES)
        return {"bytes": proxy.new_end_after, "connections": proxy.reset()}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        scene.service.database_proxy.new_end_after = None
        return {}


class DropCommits(Fault):
    """COMMITs that take place while their answers are lost."""

    def __init__(self) -> None:
        self._before = 0

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        proxy = scene.service.database_proxy
        self._before = proxy.commits_dropped
        proxy.drop_commits = scene.random.randint(*_COMMITS)
        return {"armed": proxy.drop_commits}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        proxy = scene.service.database_proxy
        proxy.drop_commits = 0
        return {"dropped": proxy.commits_dropped - self._before}


class ResetValkey(Fault):
    """Every connection to Valkey is reset."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        return {"connections": scene.service.valkey_proxy.reset()}


class CutClients(Fault):
    """Every client's connection, WebSockets too, is cut at some byte of what it receives."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        count = scene.random.randrange(1, _CUT_WITHIN_BYTES)
        return {"bytes": count, "connections": scene.service.http_proxy.cut_after(count)}
