"""A worker's lease on the pictures that it holds."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from uuid import UUID

import structlog

from serve.jobs.claims import Claims, insist
from serve.jobs.drawing import Drawing
from serve.jobs.engine import Engine
from serve.supervise import Turned, untold

log = structlog.get_logger(__name__)

_TELL_S = 30.0


class Lease:
    """The worker's row in Postgres; without it, all that the worker draws is somebody else's."""

    worker_id: UUID
    """Set by ``begin``, and anew after each loss."""

    def __init__(
        self, claims: Claims, engine: Engine, device: str, drawing: Drawing, heartbeat_s: float
    ) -> None:
        self._claims = claims
        self._engine = engine
        self._device = device
        self._drawing = drawing
        self._heartbeat_s = heartbeat_s
        self._told_at = -math.inf

    async def begin(self) -> None:
        """Announce the worker, however long Postgres is away."""
        self.worker_id = await insist(self._register)

    async def keep(self, draining: asyncio.Event, turned: Turned = untold) -> None:
        """Renew it while the engine's loop turns, until cancelled; one that hangs loses its work.

        ``draining`` is told with each heartbeat.

        Raises:
            DatabaseUnavailable: call it again.
        """
        seen, turned_at = -1, monotonic()
        while True:
            ticks = self._engine.ticks
            if ticks != seen:
                seen, turned_at = ticks, monotonic()
            if monotonic() - turned_at <= self._engine.patience:
                await self._beat(draining.is_set())
            else:
                log.warning("worker.engine_hangs", drawing=len(self._drawing))
            turned()
            await asyncio.sleep(self._heartbeat_s)

    async def _beat(self, draining: bool) -> None:
        stats = self._engine.stats()
        if await self._claims.heartbeat(self.worker_id, stats, draining=draining):
            await self._tell_costs()
            return
        log.warning("worker.lease_lost", drawing=len(self._drawing))
        self._drawing.keep(set())
        self.worker_id = await self._register()

    async def _tell_costs(self) -> None:
        if monotonic() - self._told_at < _TELL_S:
            return
        await self._claims.tell_costs(self._engine.profiles(), self._engine.max_batch)
        self._told_at = monotonic()

    async def _register(self) -> UUID:
        return await self._claims.register(self._device, self._engine.max_batch)
