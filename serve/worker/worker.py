"""A diffusion replica's working life: claim, draw, deliver, and keep the lease meanwhile.

Knows neither Ray nor torch: the engine and the post-process step are handed in.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.diffusion.request import Expired, Failure, Output, Progress, Result
from serve.events.bus import EventBus
from serve.jobs.claim import Claim
from serve.jobs.errors import EngineDied, PostprocessFailed
from serve.moderation.errors import refused_picture
from serve.pictures.stored_file import StoredFile
from serve.settings import WorkerSettings
from serve.supervise import Loop, Turned
from serve.worker.claims import RETRY_S, Claims, insist
from serve.worker.drawing import Drawing, LoadSource
from serve.worker.engine import Engine
from serve.worker.lease import Lease
from serve.worker.source import Source

log = structlog.get_logger(__name__)

_LOOK_S = 2.0


class PictureStore(Protocol):
    """Where pictures go: `serve.worker.delivery.Delivery`."""

    async def store(self, image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]: ...
    async def discard(self, claim: Claim) -> None: ...


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
    ) -> None:
        """``hidden`` are models whose pictures nobody may see before they are done."""
        self._claims = claims
        self._bus = bus
        self._load_source = load_source
        self._store = store
        self._settings = settings
        self._hidden = hidden
        self._delivering: dict[asyncio.Task[Any], Claim] = {}  # no longer drawn, not yet committed
        self._unsure = False
        self._looked_at = -math.inf
        self._shared_at = -math.inf
        self._drain_s = settings.drain_s
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()
        self.loops: list[Loop] = []
        """What runs in the background; set by ``run``."""

    async def run(self, engine: Engine, device: str) -> None:
        """Work until drained.

        Raises:
            EngineDied: the engine's loop ended; what it held is retried elsewhere.
        """
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._drawing = Drawing(
            engine,
            self._claims,
            self._bus,
            self._load_source,
            self._settings.preview_every,
            self._hidden,
        )
        self._lease = Lease(self._claims, engine, device, self._drawing, self._settings)
        await self._lease.begin()
        pull = Loop("pull", self._pull, fatal=EngineDied)
        lease = Loop("heartbeat", partial(self._lease.keep, self._draining))
        board = Loop("progress", self._drawing.board.run)
        self.loops = [pull, lease, board]
        try:
            await asyncio.shield(pull.task)
        finally:
            self._draining.set()
            await lease.stop()
            self._drawing.board.close()
            await asyncio.gather(pull.task, board.task, return_exceptions=True)
            await self._leave()
            self._drained.set()

    @property
    def engine_hangs(self) -> bool:
        """Whether the engine stands still, and what it held was left to others."""
        return self._lease.engine_hangs

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
        self._loop.call_soon_threadsafe(self._receive, outputs)

    async def _pull(self, turned: Turned) -> None:
        while not self._draining.is_set():
            self._bus.work.clear()
            if self._engine.failed:
                raise EngineDied("The engine's loop died; its log says of what.")
            claimed = await self._claim()
            turned()
            if not claimed:
                await self._wait_for_work()
        await self._finish_drawing(turned)

    async def _claim(self) -> int:
        if self._unsure or self._may_have_lost():
            known = self._known()
            self._compare(await self._claims.held(self._lease.worker_id), known)
        if not self._lease.held:  # what it claimed would soon be taken from it
            return 0
        await self._share_out()
        free, spare = self._places()
        if not free + spare or any(claim.alone for claim in self._drawing):
            return 0
        self._unsure = True  # until the COMMIT's answer has come
        claims = await self._claims.claim(
            self._lease.worker_id,
            free,
            self._drawing.shape,
            spare=spare,
            holding=len(self._drawing),
        )
        self._unsure = False
        for claim in claims:
            if claim.worker_id == self._lease.worker_id:  # else the lease was lost meanwhile
                self._drawing.begin(claim)
        return len(claims)

    async def _share_out(self) -> None:
        """Hand back what has hardly begun and could begin elsewhere: a replica may be new."""
        hardly = self._drawing.hardly_begun()
        if not hardly or monotonic() - self._shared_at < _LOOK_S:
            return
        self._shared_at = monotonic()
        excess = await self._claims.excess(self._lease.worker_id, len(self._drawing))
        for request_id in hardly[:excess]:
            if (claim := self._drawing.give_up(request_id)) is not None:
                self._begin_end(claim, insist(partial(self._claims.hand_back, claim)))

    def _places(self) -> tuple[int, int]:
        """In the next step, and behind it; none while as many pictures wait for storage."""
        loading = self._drawing.loading
        free = max(0, self._engine.free_slots - loading)
        spare = self._settings.spare
        most = self._engine.max_batch + (self._engine.max_batch if spare is None else spare)
        if len(self._delivering) >= most:
            return 0, 0
        return free, max(0, most - self._engine.drawing - loading - free)

    def _may_have_lost(self) -> bool:
        """Whether a job of a picture that is being drawn was said to have ended; or may have."""
        ended, self._bus.ended = self._bus.ended, set()
        drawing = {claim.job_id for claim in self._drawing}
        overdue = monotonic() - self._looked_at > _LOOK_S  # a hint may be lost
        return bool(drawing) and (overdue or not ended.isdisjoint(drawing))

    def _in_hand(self) -> list[Claim]:
        """What is drawn, and what is out of the engine but not yet committed."""
        return [*self._drawing, *self._delivering.values()]

    def _known(self) -> set[UUID]:
        """Every picture in hand."""
        return {claim.image_id for claim in self._in_hand()}

    def _compare(self, held: Sequence[Claim], known: set[UUID]) -> None:
        """Drop what is no longer ours; take up what a COMMIT gave us whose answer was lost.

        ``known`` is what was in hand before Postgres was asked: a picture of those that is no
        longer in hand was committed meanwhile, though ``held`` still names it.
        """
        self._looked_at = monotonic()
        self._drawing.keep({claim.image_id for claim in held})
        if self._unsure:
            for claim in held:
                if claim.image_id not in known:
                    self._drawing.begin(claim)
            self._unsure = False

    async def _wait_for_work(self) -> None:
        with suppress(TimeoutError):  # no hint came: look all the same
            async with asyncio.timeout(self._settings.poll_s):
                await self._bus.work.wait()

    def _receive(self, outputs: list[Output]) -> None:
        if self._engine.failed:
            self._bus.work.set()  # a dying engine blames nobody: its claims are retried
            return
        for output in outputs:
            if isinstance(output, Progress):
                self._drawing.progress(output)
            elif (ended := self._drawing.end(output.request_id)) is not None:
                claim, source = ended
                if not isinstance(output, Expired):  # that is for the reaper's clock to say
                    self._deliver(claim, output, source)
                self._bus.work.set()  # a slot is free

    def _deliver(self, claim: Claim, output: Result | Failure, source: Source | None) -> None:
        self._begin_end(claim, self._end(claim, output, source))

    def _begin_end(self, claim: Claim, end: Coroutine[Any, Any, Any]) -> None:
        """Beside the loops: it may take as long as Postgres is away."""
        task = asyncio.create_task(end, name=f"end {claim.image_id}")
        self._delivering[task] = claim
        task.add_done_callback(self._delivering.pop)

    async def _end(self, claim: Claim, output: Result | Failure, source: Source | None) -> None:
        """Commit a picture or its failure; whatever goes wrong, the claim does not stay open."""
        reason, code = _failure(output) if isinstance(output, Failure) else (None, None)
        try:
            if isinstance(output, Result):
                picture = source.kept_in(output.image) if source else output.image
                began = monotonic()
                files = await self._store.store(picture, claim)
                complete = partial(
                    self._claims.complete,
                    claim,
                    files,
                    output.seconds,
                    monotonic() - began,
                    output.reading,
                )
                if not await insist(complete):
                    log.info("worker.claim_lost", image_id=str(claim.image_id))
        except PostprocessFailed as error:
            reason, code = str(error), error.code
        except Exception as error:
            log.exception("worker.delivery_failed", image_id=str(claim.image_id))
            reason = f"The picture could not be delivered: {type(error).__name__}."
        if reason is None:
            return
        # Files go only once it is certain that this attempt is never committed.
        if await insist(partial(self._claims.fail, claim, reason, code)):
            await self._store.discard(claim)

    async def _finish_drawing(self, turned: Turned) -> None:
        try:
            async with asyncio.timeout(self._drain_s):
                while (self._drawing or self._delivering) and not self._engine.failed:
                    self._bus.work.clear()
                    turned()
                    if self._delivering:
                        await asyncio.wait(self._delivering, timeout=RETRY_S)
                    else:
                        await self._wait_for_work()
        except TimeoutError:
            log.warning("worker.drain_timed_out", drawing=len(self._drawing))

    async def _leave(self) -> None:
        """Give back what is left. After an engine's death the reaper does so, with a charge."""
        self._drawing.stop_loading()
        for task in self._delivering:
            task.cancel()
        unfinished = self._in_hand()
        if not self._engine.failed:
            await asyncio.to_thread(self._engine.stop, drain=False)
            for claim in unfinished:
                await insist(partial(self._claims.hand_back, claim))
        await insist(partial(self._claims.leave, self._lease.worker_id))


def _failure(output: Failure) -> tuple[str, str | None]:
    """Its sentence for clients, and the job's ``error_code`` where it has one."""
    if not output.unsafe:
        return output.reason, None
    log.info("moderation.refused", side="picture", reason="the model's safety checker")
    refused = refused_picture()
    return refused.message, refused.code
