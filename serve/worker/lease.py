"""A worker's lease on the pictures that it holds."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from serve.observability.meter import UNMETERED, Meter
from serve.observability.metrics import LEASES_LOST
from serve.settings import WorkerSettings
from serve.supervise import RoundDone, ignore_round
from serve.worker.claims import Claims
from serve.worker.drawing import Drawings
from serve.worker.retry import until_connected

if TYPE_CHECKING:
    from pipelines.diffusion.runner import EngineRunner

log = structlog.get_logger(__name__)

_KEEP_COSTS_S = 30.0


class Lease:
    """The worker's row in Postgres. Once that is gone, its pictures belong to other workers."""

    worker_id: UUID
    """Set by ``begin``, and anew after each loss."""

    def __init__(
        self,
        claims: Claims,
        engine: EngineRunner,
        device: str,
        drawings: Drawings,
        settings: WorkerSettings,
        meter: Meter = UNMETERED,
    ) -> None:
        self._meter = meter
        self._claims = claims
        self._engine = engine
        self._device = device
        self._drawings = drawings
        self._settings = settings
        self._renewed_at = -math.inf
        """When the last renewal that Postgres confirmed was sent."""
        self._ticks = -1
        self._still_s = 0.0
        """How long the engine's loop has not turned."""
        self._costs_kept_at = -math.inf
        self._hanging = False

    @property
    def held(self) -> bool:
        """Whether the worker may claim: its lease has not run out, and its engine turns."""
        return (
            monotonic() - self._renewed_at < self._settings.lease_s
            and self._still_s <= self._engine.patience
        )

    @property
    def engine_hangs(self) -> bool:
        """Whether the engine has stood still for so long that its pictures were taken from it."""
        return self._still_s > self._engine.patience + self._settings.lease_s

    @until_connected
    async def begin(self) -> None:
        """Register the worker, however long Postgres is away."""
        await self._register()

    async def keep(self, draining: asyncio.Event, round_done: RoundDone = ignore_round) -> None:
        """Renew it until cancelled, but only while the engine's loop turns.

        Each heartbeat says whether the worker is ``draining``.

        Raises:
            DatabaseUnavailable: call it again.
        """
        while True:
            self._watch_engine()
            if self._still_s <= self._engine.patience:
                self._hanging = False
                await self._beat(draining.is_set())
            elif not self._hanging:
                self._hanging = True
                log.critical(
                    "worker.engine_hangs",
                    still_s=round(self._still_s, 1),
                    patience_s=round(self._engine.patience, 1),
                    drawing=len(self._drawings),
                )
            round_done()
            await asyncio.sleep(self._settings.heartbeat_s)

    def _watch_engine(self) -> None:
        """Count rounds, not time: while a process is stopped (SIGSTOP), its engine is as well."""
        ticks = self._engine.ticks
        if ticks != self._ticks:
            self._ticks, self._still_s = ticks, 0.0
        else:
            self._still_s += self._settings.heartbeat_s

    async def _beat(self, draining: bool) -> None:
        stats, sent_at = self._engine.stats(), monotonic()
        if await self._claims.heartbeat(self.worker_id, stats, draining=draining):
            self._renewed_at = sent_at
            await self._keep_costs()
            return
        log.warning("worker.lease_lost", worker_id=str(self.worker_id), drawing=len(self._drawings))
        self._meter.count(LEASES_LOST)
        self._renewed_at = -math.inf
        self._drawings.keep(set())
        await self._register()

    async def _keep_costs(self) -> None:
        if monotonic() - self._costs_kept_at < _KEEP_COSTS_S:
            return
        await self._claims.report_costs(self._engine.profiles(), self._engine.max_batch)
        self._costs_kept_at = monotonic()

    async def _register(self) -> None:
        sent_at = monotonic()
        self.worker_id = await self._claims.register(self._device, self._engine.max_batch)
        self._renewed_at = sent_at
