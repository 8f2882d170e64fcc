"""A diffusion replica's working life: claim pictures, and keep the lease while they are drawn.

Knows neither Ray nor torch: the engine and the post-process step are handed in.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from pipelines.diffusion.request import Output
from serve.events.bus import EventBus
from serve.observability.meter import UNMETERED, Meter
from serve.settings import WorkerSettings
from serve.supervise import Loop, RoundDone
from serve.worker.claims import Claims
from serve.worker.drawing import Drawings, LoadSource, PictureStore
from serve.worker.errors import EngineDied
from serve.worker.lease import Lease
from serve.worker.retry import RETRY_S
from serve.worker.step_meter import StepMeter

if TYPE_CHECKING:
    from pipelines.diffusion.runner import EngineRunner

log = structlog.get_logger(__name__)

_LOOK_S = 2.0


class Worker:
    """Pulls pictures from Postgres into one engine.

    ``run`` works until ``drain`` is called or the engine dies. ``take`` is the engine's
    ``on_outputs``.
    """

    def __init__(
        self,
        claims: Claims,
        bus: EventBus,
        load_source: LoadSource,
        store: PictureStore,
        settings: WorkerSettings,
        hidden: Collection[str] = (),
        meter: Meter = UNMETERED,
    ) -> None:
        """``hidden`` are models whose pictures nobody may see before they are done."""
        self._claims = claims
        self._bus = bus
        self._settings = settings
        self._meter = meter
        self._step_meter = StepMeter(meter)
        self._drawings = Drawings(
            claims, bus, load_source, store, settings.preview_every, hidden, meter
        )
        self._unsure = False
        """Whether the answer to a claim may have been lost after its COMMIT."""
        self._looked_at = -math.inf
        self._shared_at = -math.inf
        self._drain_s = settings.drain_s
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()
        self.loops: list[Loop] = []
        """What runs in the background; set by ``run``."""

    async def run(self, engine: EngineRunner, device: str) -> None:
        """Work until drained.

        Raises:
            EngineDied: the engine's loop ended; what it held is retried elsewhere.
        """
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._drawings.engine = engine
        self._lease = Lease(
            self._claims, engine, device, self._drawings, self._settings, self._meter
        )
        await self._lease.begin()
        pull = Loop("pull", self._pull, fatal=EngineDied)
        lease = Loop("heartbeat", partial(self._lease.keep, self._draining))
        board = Loop("progress", self._drawings.board.run)
        self.loops = [pull, lease, board]
        try:
            await asyncio.shield(pull.task)
        finally:
            self._draining.set()
            await lease.stop()
            self._drawings.board.close()
            await asyncio.gather(pull.task, board.task, return_exceptions=True)
            await self._leave()
            self._drained.set()

    def sample(self) -> None:
        """Record the engine's steps since the last time; for one thread, once ``run`` has begun."""
        self._step_meter.record(self._engine.take_steps(), self._engine.max_batch)

    @property
    def engine_hangs(self) -> bool:
        """Whether the engine stands still, and what it held was left to others."""
        return self._lease.engine_hangs

    @property
    def delivering(self) -> int:
        """How many pictures are drawn, but not yet committed."""
        return self._drawings.delivering

    async def drain(self, within_s: float = math.inf) -> None:
        """Claim nothing more; finish what is being drawn, or hand it back; then leave.

        It has the settings' ``drain_s``, or ``within_s`` where that is less.
        """
        self._drain_s = min(self._drain_s, within_s)
        self._draining.set()
        self._bus.work.set()
        await self._drained.wait()

    def take(self, outputs: list[Output]) -> None:
        """Receive the engine's outputs, in its thread."""
        self._loop.call_soon_threadsafe(self._drawings.receive, outputs)

    async def _pull(self, round_done: RoundDone) -> None:
        while not self._draining.is_set():
            self._bus.work.clear()
            if self._engine.failed:
                raise EngineDied("The engine's loop died; its log says of what.")
            claimed = await self._claim()
            round_done()
            if not claimed:
                with suppress(TimeoutError):  # no hint came: look all the same
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._bus.work.wait()
        await self._finish_drawing(round_done)

    async def _claim(self) -> int:
        """Claim what there is room for; the number of pictures."""
        if self._unsure or self._may_have_lost():
            await self._compare()
        if not self._lease.held:  # what it claimed would soon be taken from it
            return 0
        await self._share_out()
        free, spare = self._places()
        drawn = self._drawings.foreground
        in_background = len(self._drawings) - len(drawn)
        background = self._background_places(in_background) if not drawn else 0
        if not free + spare + background or any(claim.alone for claim in drawn):
            return 0
        self._unsure = True  # until the COMMIT's answer has come
        claims = await self._claims.claim(
            self._lease.worker_id,
            free,
            self._drawings.shape,
            spare=spare,
            holding=len(drawn),
            background=background,
            holding_background=in_background,
        )
        self._unsure = False
        if any(not claim.background for claim in claims):
            self._drawings.make_way(claims)
        for claim in claims:
            if claim.worker_id == self._lease.worker_id:  # else the lease was lost meanwhile
                self._drawings.begin(claim)
        return len(claims)

    def _may_have_lost(self) -> bool:
        """Whether a picture that is being drawn may have been taken or its job have ended."""
        ended, self._bus.ended = self._bus.ended, set()
        drawing = {claim.job_id for claim in self._drawings}
        overdue = monotonic() - self._looked_at > _LOOK_S  # a hint may be lost
        return bool(drawing) and (overdue or not ended.isdisjoint(drawing))

    async def _compare(self) -> None:
        """Drop claims that were lost; begin those of a COMMIT whose answer was lost."""
        # Taken before Postgres is read: what is committed meanwhile is still among those held.
        known = {claim.image_id for claim in self._drawings.in_hand}
        held = await self._claims.held(self._lease.worker_id)
        self._looked_at = monotonic()
        self._drawings.keep({claim.image_id for claim in held})
        if self._unsure:
            for claim in held:
                if claim.image_id not in known:
                    self._drawings.begin(claim)
            self._unsure = False

    async def _share_out(self) -> None:
        """Hand back what has hardly begun and would begin sooner on a new replica."""
        hardly = self._drawings.hardly_begun()
        if not hardly or monotonic() - self._shared_at < _LOOK_S:
            return
        self._shared_at = monotonic()
        drawn = self._drawings.foreground
        excess = await self._claims.excess(self._lease.worker_id, len(drawn))
        for request_id in hardly[:excess]:
            self._drawings.hand_back(request_id)

    def _places(self) -> tuple[int, int]:
        """Free places in the next step, and behind it; none while too many wait for storage."""
        loading = self._drawings.loading
        free = max(0, self._engine.free_slots - loading)
        spare = self._settings.spare
        most = self._engine.max_batch + (self._engine.max_batch if spare is None else spare)
        if self._drawings.delivering >= most:
            return 0, 0
        return free, max(0, most - self._engine.drawing - loading - free)

    def _background_places(self, held: int) -> int:
        """For pictures that are drawn while no other is; beside one that is drawn alone, none."""
        if self._drawings.delivering >= self._engine.max_batch:
            return 0
        alone = any(claim.alone for claim in self._drawings)
        return 0 if alone else max(0, self._engine.max_batch - held)

    async def _finish_drawing(self, round_done: RoundDone) -> None:
        try:
            async with asyncio.timeout(self._drain_s):
                while self._drawings.in_hand and not self._engine.failed:
                    round_done()
                    await self._drawings.wait(RETRY_S)
        except TimeoutError:
            log.warning("worker.drain_timed_out", drawing=len(self._drawings))

    async def _leave(self) -> None:
        """Hand back what is left. If the engine died the reaper does so, and counts a crash."""
        unfinished = self._drawings.in_hand
        self._drawings.stop()
        if not self._engine.failed:
            await asyncio.to_thread(self._engine.stop, drain=False)
            for claim in unfinished:
                await self._claims.hand_back(claim)
        await self._claims.leave(self._lease.worker_id)
