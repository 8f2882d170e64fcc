"""A worker's lease on the pictures that it holds."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from uuid import UUID

import structlog

from serve.settings import WorkerSettings
from serve.supervise import Turned, untold
from serve.worker.claims import Claims, insist
from serve.worker.drawing import Drawing
from serve.worker.engine import Engine

log = structlog.get_logger(__name__)

_TELL_S = 30.0


class Lease:
    """The worker's row in Postgres; without it, all that the worker draws is somebody else's."""

    worker_id: UUID
    """Set by ``begin``, and anew after each loss."""

    def __init__(
        self,
        claims: Claims,
        engine: Engine,
        device: str,
        drawing: Drawing,
        settings: WorkerSettings,
    ) -> None:
        self._claims = claims
        self._engine = engine
        self._device = device
        self._drawing = drawing
        self._settings = settings
        self._renewed_at = -math.inf
        """When the last renewal that Postgres confirmed was asked for."""
        self._ticks = -1
        self._still_s = 0.0
        """How long the engine's loop has not turned."""
        self._told_at = -math.inf

    @property
    def held(self) -> bool:
        """Whether the worker may claim: its lease has not run out, and its engine turns."""
        return (
            monotonic() - self._renewed_at < self._settings.lease_s
            and self._still_s <= self._engine.patience
        )

    @property
    def engine_hangs(self) -> bool:
        """Whether the engine has stood still for so long that its work was taken for it."""
        return self._still_s > self._engine.patience + self._settings.lease_s

    async def begin(self) -> None:
        """Announce the worker, however long Postgres is away."""
        await insist(self._register)

    async def keep(self, draining: asyncio.Event, turned: Turned = untold) -> None:
        """Renew it while the engine's loop turns, until cancelled; one that hangs loses its work.

        ``draining`` is told with each heartbeat.

        Raises:
            DatabaseUnavailable: call it again.
        """
        while True:
            self._watch_engine()
            if self._still_s <= self._engine.patience:
                await self._beat(draining.is_set())
            else:
                log.warning(
                    "worker.engine_hangs",
                    still_s=round(self._still_s, 1),
                    patience_s=round(self._engine.patience, 1),
                    drawing=len(self._drawing),
                )
            turned()
            await asyncio.sleep(self._settings.heartbeat_s)

    def _watch_engine(self) -> None:
        """Rounds are counted, not time: of a process that was stopped no part has run meanwhile."""
        ticks = self._engine.ticks
        if ticks != self._ticks:
            self._ticks, self._still_s = ticks, 0.0
        else:
            self._still_s += self._settings.heartbeat_s

    async def _beat(self, draining: bool) -> None:
        stats, asked_at = self._engine.stats(), monotonic()
        if await self._claims.heartbeat(self.worker_id, stats, draining=draining):
            self._renewed_at = asked_at
            await self._tell_costs()
            return
        log.warning("worker.lease_lost", drawing=len(self._drawing))
        self._renewed_at = -math.inf
        self._drawing.keep(set())
        await self._register()

    async def _tell_costs(self) -> None:
        if monotonic() - self._told_at < _TELL_S:
            return
        await self._claims.tell_costs(self._engine.profiles(), self._engine.max_batch)
        self._told_at = monotonic()

    async def _register(self) -> None:
        asked_at = monotonic()
        self.worker_id = await self._claims.register(self._device, self._engine.max_batch)
        self._renewed_at = asked_at
