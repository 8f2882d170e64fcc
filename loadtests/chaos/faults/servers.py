"""Faults of Postgres and Valkey themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import redis.asyncio as redis
from redis.exceptions import RedisError

from loadtests.chaos.faults.fault import Fault, Scene
from loadtests.chaos.proxy import unix_socket
from loadtests.chaos.service import SOCKET
from loadtests.chaos.standby import Standby, psql


class RestartValkey(Fault):
    """SIGKILL, and a new one: every subscription is gone."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        pid = scene.service.valkey.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return {"valkey": pid}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        scene.service.valkey.stop()
        scene.service.valkey.start()
        return {"valkey": scene.service.valkey.pid}


class FlushValkey(Fault):
    """FLUSHALL: whatever it held is gone."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        client = redis.Redis(unix_socket_path=str(scene.service.valkey_socket))
        with suppress(RedisError, OSError):
            await client.flushall()
        await client.aclose()
        return {}


class FreezeValkey(Fault):
    """SIGSTOP: connections stay open and nothing answers."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        if (pid := scene.service.valkey.pid) is not None:
            os.kill(pid, signal.SIGSTOP)
        return {"frozen": pid}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        if (pid := scene.service.valkey.pid) is not None:
            os.kill(pid, signal.SIGCONT)
        return {}


class StopPostgres(Fault):
    """SIGQUIT: an immediate shutdown, as a crash; the start recovers from its log."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        postgres = scene.service.postgres
        pid = postgres.pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            while postgres.running:
                await asyncio.sleep(0.05)
        return {"postgres": pid}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        # In this thread: the server is tied to the life of the thread that starts it.
        scene.service.postgres.stop()
        scene.service.postgres.start()
        return {"postgres": scene.service.postgres.pid}


class ReadOnlyDatabase(Fault):
    """Postgres answers, and takes no writes."""

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        await self._set(scene, "ALTER SYSTEM SET default_transaction_read_only = on")
        return {}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        await self._set(scene, "ALTER SYSTEM RESET default_transaction_read_only")
        return {}

    async def _set(self, scene: Scene, statement: str) -> None:
        await psql(scene.service.postgres.sockets, statement, "SELECT pg_reload_conf()")


class PromoteStandby(Fault):
    """The primary's host is gone without a word; its standby takes over, and clients come to it."""

    def __init__(self) -> None:
        self._standby: Standby | None = None

    async def inject(self, scene: Scene, seconds: float) -> dict[str, Any]:
        service = scene.service
        primary = service.postgres
        standby = Standby(service.data / f"standby-{primary.pid}", primary)
        await standby.follow()
        self._standby = standby
        connections = service.database_proxy.freeze()
        if primary.pid is not None:
            os.kill(primary.pid, signal.SIGQUIT)
            while primary.running:
                await asyncio.sleep(0.05)
        return {"connections": connections, "standby": standby.pid}

    async def heal(self, scene: Scene) -> dict[str, Any]:
        service, standby = scene.service, self._standby
        if standby is None:
            return {}
        service.postgres.stop()
        await standby.promote()
        service.postgres = standby
        service.database_proxy.upstream = unix_socket(service.postgres_sockets / SOCKET)
        return {"postgres": standby.pid}
