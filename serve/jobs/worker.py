"""A diffusion replica's working life: claim, draw, deliver, and keep the lease meanwhile.

Knows neither Ray nor torch: the engine and the post-process step are handed in.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.diffusion.batching.cost import Profile
from pipelines.diffusion.request import (
    EngineStats,
    Expired,
    Failure,
    Output,
    Progress,
    Request,
    Result,
)
from serve.database import DatabaseUnavailable
from serve.events import EventBus
from serve.jobs.claim import Claim
from serve.jobs.claims import Claims
from serve.jobs.errors import EngineDied, PostprocessFailed, SourceLost
from serve.jobs.progress import ProgressBoard
from serve.jobs.queue import Shape
from serve.jobs.sources import Source
from serve.jobs.stored_file import StoredFile
from serve.moderation.errors import refused_picture
from serve.settings import WorkerSettings

log = structlog.get_logger(__name__)

LoadSource = Callable[[Claim], Awaitable[Source]]
"""Fetches what a claim is drawn from; raises SourceLost."""

_RETRY_S = 0.5
_LOOK_S = 2.0
_TELL_S = 30.0
_HARDLY_BEGUN = 0.1  # of its steps: so much may be drawn again elsewhere

T = TypeVar("T")


class Engine(Protocol):
    """The door of `pipelines.diffusion.runner.EngineRunner`."""

    @property
    def max_batch(self) -> int: ...
    @property
    def drawing(self) -> int: ...
    @property
    def free_slots(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def patience(self) -> float: ...
    @property
    def failed(self) -> bool: ...
    def start(self) -> None: ...
    def submit(self, request: Request) -> None: ...
    def abort(self, request_id: str) -> bool: ...
    def stop(self, drain: bool, timeout: float | None = None) -> list[str]: ...
    def stats(self) -> EngineStats: ...
    def profiles(self) -> dict[str, Profile]: ...


class PictureStore(Protocol):
    """Where pictures go: `serve.jobs.delivery.Delivery`."""

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
        self._board = ProgressBoard(bus)
        self._drawing: dict[str, Claim] = {}  # in the engine or about to be, by request id
        self._loading: dict[str, asyncio.Task[None]] = {}  # of those, what waits for its source
        self._sources: dict[str, Source] = {}  # of those, what is drawn from one
        self._done: dict[str, float] = {}  # of those that told of progress, the share of steps
        self._delivering: dict[asyncio.Task[None], Claim] = {}  # out of it, not yet committed
        self._unsure = False
        self._looked_at = -math.inf
        self._shared_at = -math.inf
        self._told_at = -math.inf
        self._draining = False
        self._drained = asyncio.Event()

    async def run(self, engine: Engine, device: str) -> None:
        """Work until drained.

        Raises:
            EngineDied: the engine's loop ended; what it held is retried elsewhere.
        """
        self._engine = engine
        self._device = device
        self._loop = asyncio.get_running_loop()
        engine.start()
        self._worker_id = await self._insist(self._register)
        pull = asyncio.create_task(self._pull(), name="pull")
        lease = asyncio.create_task(self._keep_lease(), name="heartbeat")
        board = asyncio.create_task(self._board.run(), name="progress")
        try:
            done, _ = await asyncio.wait({pull, lease, board}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._draining = True
            lease.cancel()
            self._board.close()
            await asyncio.gather(pull, lease, board, return_exceptions=True)
            await self._leave()
            self._drained.set()

    async def drain(self) -> None:
        """Claim nothing more; finish what is being drawn, or hand it back; then leave."""
        self._draining = True
        self._bus.work.set()
        await self._drained.wait()

    def take(self, outputs: list[Output]) -> None:
        """Receive the engine's outputs, in its thread."""
        self._loop.call_soon_threadsafe(self._receive, outputs)

    async def _pull(self) -> None:
        while not self._draining:
            self._bus.work.clear()
            if self._engine.failed:
                raise EngineDied("The engine's loop died; its log says of what.")
            try:
                claimed = await self._claim()
            except DatabaseUnavailable as error:
                log.warning("worker.database_unavailable", error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            if not claimed:
                await self._wait_for_work()
        await self._finish_drawing()

    async def _claim(self) -> int:
        if self._unsure or self._may_have_lost():
            known = self._known()
            self._compare(await self._claims.held(self._worker_id), known)
        await self._share_out()
        free, spare = self._places()
        if not free + spare or any(claim.alone for claim in self._drawing.values()):
            return 0
        self._unsure = True  # until the COMMIT's answer has come
        claims = await self._claims.claim(
            self._worker_id, free, self._shape(), spare=spare, holding=len(self._drawing)
        )
        self._unsure = False
        for claim in claims:
            self._draw(claim)
        return len(claims)

    async def _share_out(self) -> None:
        """Hand back what has hardly begun and could begin elsewhere: a replica may be new."""
        hardly = [id_ for id_ in self._drawing if self._done.get(id_, 0.0) < _HARDLY_BEGUN]
        if not hardly or monotonic() - self._shared_at < _LOOK_S:
            return
        self._shared_at = monotonic()
        excess = await self._claims.excess(self._worker_id, len(self._drawing))
        for request_id in sorted(hardly, key=lambda id_: self._done.get(id_, 0.0))[:excess]:
            if self._engine.abort(request_id):
                claim = self._drawing[request_id]
                self._forget(request_id)
                await self._insist(partial(self._claims.hand_back, claim))

    def _places(self) -> tuple[int, int]:
        """In the next step, and behind it; none while as many pictures wait for storage."""
        free = max(0, self._engine.free_slots - len(self._loading))
        spare = self._settings.spare
        most = self._engine.max_batch + (self._engine.max_batch if spare is None else spare)
        if len(self._delivering) >= most:
            return 0, 0
        return free, max(0, most - self._engine.drawing - len(self._loading) - free)

    def _may_have_lost(self) -> bool:
        """Whether a job of a picture that is being drawn was said to have ended; or may have."""
        ended, self._bus.ended = self._bus.ended, set()
        drawing = {claim.job_id for claim in self._drawing.values()}
        overdue = monotonic() - self._looked_at > _LOOK_S  # a hint may be lost
        return bool(drawing) and (overdue or not ended.isdisjoint(drawing))

    def _draw(self, claim: Claim) -> None:
        request_id = f"{claim.image_id}.{claim.attempt}"
        self._drawing[request_id] = claim
        if claim.sources:
            loading = asyncio.create_task(self._load(request_id, claim), name=f"load {request_id}")
            self._loading[request_id] = loading
        else:
            self._submit(request_id, claim, None)

    async def _load(self, request_id: str, claim: Claim) -> None:
        """From storage into the engine; a source that is lost fails the picture."""
        try:
            source = await self._load_source(claim)
        except SourceLost as error:
            reason = str(error)
        except Exception as error:
            log.exception("worker.loading_failed", image_id=str(claim.image_id))
            reason = f"The source picture could not be read: {type(error).__name__}."
        else:
            self._loading.pop(request_id)
            self._sources[request_id] = source
            if not self._engine.failed:  # a dying engine's claims are retried
                self._submit(request_id, claim, source)
            return
        await self._insist(partial(self._claims.fail, claim, reason))
        self._forget(request_id)
        self._bus.work.set()  # a slot is free

    def _submit(self, request_id: str, claim: Claim, source: Source | None) -> None:
        pixels = (source.image, source.mask) if source else (None, None)
        self._engine.submit(
            Request(
                request_id,
                claim.request.sampling(claim.index, *pixels),
                self._preview_every(claim),
                deadline_s=claim.deadline_s,
                model=claim.request.model,
            )
        )

    def _preview_every(self, claim: Claim) -> int:
        if claim.request.model in self._hidden:
            return 0
        return claim.request.preview_every(self._settings.preview_every)

    def _in_hand(self) -> list[Claim]:
        """What is drawn, and what is out of the engine but not yet committed."""
        return [*self._drawing.values(), *self._delivering.values()]

    def _known(self) -> set[UUID]:
        """Every picture in hand."""
        return {claim.image_id for claim in self._in_hand()}

    def _compare(self, held: Sequence[Claim], known: set[UUID]) -> None:
        """Drop what is no longer ours; take up what a COMMIT gave us whose answer was lost.

        ``known`` is what was in hand before Postgres was asked: a picture of those that is no
        longer in hand was committed meanwhile, though ``held`` still names it.
        """
        self._looked_at = monotonic()
        self._keep({claim.image_id for claim in held})
        if self._unsure:
            for claim in held:
                if claim.image_id not in known:
                    self._draw(claim)
            self._unsure = False

    async def _wait_for_work(self) -> None:
        with suppress(TimeoutError):  # no hint came: look all the same
            async with asyncio.timeout(self._settings.poll_s):
                await self._bus.work.wait()

    def _shape(self) -> Shape | None:
        """What most of the pictures share that are being drawn."""
        requests = [claim.request for claim in self._drawing.values()]
        shapes = Counter(Shape(each.width, each.height, each.model) for each in requests)
        return max(shapes, key=shapes.__getitem__, default=None)

    def _keep(self, held: set[UUID]) -> None:
        """Stop drawing all but these: the rest was cancelled, expired or taken."""
        for request_id, claim in list(self._drawing.items()):
            if claim.image_id not in held:
                self._engine.abort(request_id)
                self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        """It is in the engine no longer, nor on its way there."""
        self._board.drop(self._drawing.pop(request_id))
        self._done.pop(request_id, None)
        self._sources.pop(request_id, None)
        loading = self._loading.pop(request_id, None)
        if loading is not None and loading is not asyncio.current_task():
            loading.cancel()

    def _receive(self, outputs: list[Output]) -> None:
        if self._engine.failed:
            self._bus.work.set()  # a dying engine blames nobody: its claims are retried
            return
        for output in outputs:
            claim = self._drawing.get(output.request_id)
            if claim is None:
                continue
            if isinstance(output, Progress):
                self._done[output.request_id] = output.step / output.steps
                self._board.put(claim, output)
                continue
            source = self._sources.get(output.request_id)
            self._forget(output.request_id)
            if not isinstance(output, Expired):  # that is for the reaper's clock to say
                self._deliver(claim, output, source)
            self._bus.work.set()  # a slot is free

    def _deliver(self, claim: Claim, output: Result | Failure, source: Source | None) -> None:
        task = asyncio.create_task(
            self._end(claim, output, source), name=f"deliver {claim.image_id}"
        )
        self._delivering[task] = claim
        task.add_done_callback(self._delivering.pop)

    async def _end(self, claim: Claim, output: Result | Failure, source: Source | None) -> None:
        """Commit a picture or its failure; whatever goes wrong, the claim does not stay open."""
        reason, code = _failure(output) if isinstance(output, Failure) else (None, None)
        try:
            if isinstance(output, Result):
                picture = source.kept_in(output.image) if source else output.image
                files = await self._store.store(picture, claim)
                if not await self._insist(lambda: self._claims.complete(claim, files)):
                    log.info("worker.claim_lost", image_id=str(claim.image_id))
        except PostprocessFailed as error:
            reason, code = str(error), error.code
        except Exception as error:
            log.exception("worker.delivery_failed", image_id=str(claim.image_id))
            reason = f"The picture could not be delivered: {type(error).__name__}."
        if reason is None:
            return
        # Files go only once it is certain that this attempt is never committed.
        if await self._insist(partial(self._claims.fail, claim, reason, code)):
            await self._store.discard(claim)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat until Postgres answers: every call here is fenced, so that twice does no harm."""
        while True:
            try:
                return await call()
            except DatabaseUnavailable as error:
                log.warning("worker.database_unavailable", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _register(self) -> UUID:
        return await self._claims.register(self._device, self._engine.max_batch)

    async def _keep_lease(self) -> None:
        """Renew the lease while the engine's loop turns; one that hangs loses its work."""
        seen, turned_at = -1, monotonic()
        while True:
            ticks = self._engine.ticks
            if ticks != seen:
                seen, turned_at = ticks, monotonic()
            if monotonic() - turned_at <= self._engine.patience:
                await self._beat()
            else:
                log.warning("worker.engine_hangs", drawing=len(self._drawing))
            await asyncio.sleep(self._settings.heartbeat_s)

    async def _beat(self) -> None:
        stats = self._engine.stats()
        try:
            if await self._claims.heartbeat(self._worker_id, stats, draining=self._draining):
                await self._tell_costs()
                return
        except DatabaseUnavailable as error:
            log.warning("worker.database_unavailable", error=str(error))
            return
        log.warning("worker.lease_lost", drawing=len(self._drawing))
        self._keep(set())
        self._worker_id = await self._insist(self._register)

    async def _tell_costs(self) -> None:
        if monotonic() - self._told_at < _TELL_S:
            return
        await self._claims.tell_costs(self._engine.profiles(), self._engine.max_batch)
        self._told_at = monotonic()

    async def _finish_drawing(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_s):
                while (self._drawing or self._delivering) and not self._engine.failed:
                    self._bus.work.clear()
                    if self._delivering:
                        await asyncio.wait(self._delivering, timeout=_RETRY_S)
                    else:
                        await self._wait_for_work()
        except TimeoutError:
            log.warning("worker.drain_timed_out", drawing=len(self._drawing))

    async def _leave(self) -> None:
        """Give back what is left. After an engine's death the reaper does so, with a charge."""
        for task in (*self._delivering, *self._loading.values()):
            task.cancel()
        unfinished = self._in_hand()
        if not self._engine.failed:
            await asyncio.to_thread(self._engine.stop, drain=False)
            for claim in unfinished:
                await self._insist(partial(self._claims.hand_back, claim))
        await self._insist(partial(self._claims.leave, self._worker_id))


def _failure(output: Failure) -> tuple[str, str | None]:
    """Its sentence for clients, and the job's ``error_code`` where it has one."""
    if not output.unsafe:
        return output.reason, None
    log.info("moderation.refused", side="picture", reason="the model's safety checker")
    refused = refused_picture()
    return refused.message, refused.code
