"""The pictures in a worker's engine, and those on their way there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from uuid import UUID

import structlog

from pipelines.diffusion.request import Progress, Request
from serve.events.bus import EventBus
from serve.jobs.claim import Claim
from serve.jobs.errors import SourceLost
from serve.worker.claims import Claims, insist
from serve.worker.engine import Engine
from serve.worker.progress import ProgressBoard
from serve.worker.queue import Shape
from serve.worker.source import Source

log = structlog.get_logger(__name__)

LoadSource = Callable[[Claim], Awaitable[Source]]
"""Fetches what a claim is drawn from; raises SourceLost."""

_HARDLY_BEGUN = 0.1  # of its steps: so much may be drawn again elsewhere


class Drawing:
    """Claims from when they are begun until the engine has done with them, or they are forgotten.

    Iterates over them. ``board`` tells of their progress.
    """

    def __init__(
        self,
        engine: Engine,
        claims: Claims,
        bus: EventBus,
        load_source: LoadSource,
        preview_every: int,
        hidden: Collection[str],
    ) -> None:
        """``preview_every`` is in steps, for requests that ask for nothing else; 0 for none.

        ``hidden`` are models whose pictures nobody may see before they are done.
        """
        self.board = ProgressBoard(bus)
        self._engine = engine
        self._claims = claims
        self._bus = bus
        self._load_source = load_source
        self._preview_every = preview_every
        self._hidden = hidden
        self._begun: dict[str, Claim] = {}  # by request id
        self._loading: dict[str, asyncio.Task[None]] = {}  # of those, what waits for its source
        self._sources: dict[str, Source] = {}  # of those, what is drawn from one
        self._done: dict[str, float] = {}  # of those that told of progress, the share of steps

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._begun.values())

    def __len__(self) -> int:
        return len(self._begun)

    @property
    def loading(self) -> int:
        """How many the engine does not count yet: they wait for their sources."""
        return len(self._loading)

    @property
    def shape(self) -> Shape | None:
        """What most of the pictures share."""
        requests = [claim.request for claim in self]
        shapes = Counter(Shape(each.width, each.height, each.model) for each in requests)
        return max(shapes, key=shapes.__getitem__, default=None)

    def begin(self, claim: Claim) -> None:
        """Into the engine, by way of storage where it is drawn from a source."""
        request_id = f"{claim.image_id}.{claim.attempt}"
        self._begun[request_id] = claim
        if claim.sources:
            loading = asyncio.create_task(self._load(request_id, claim), name=f"load {request_id}")
            self._loading[request_id] = loading
        else:
            self._submit(request_id, claim, Source())

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
        await self._fail(request_id, claim, reason)

    async def _fail(self, request_id: str, claim: Claim, reason: str) -> None:
        await insist(partial(self._claims.fail, claim, reason))
        self._forget(request_id)
        self._bus.work.set()  # a slot is free

    def _submit(self, request_id: str, claim: Claim, source: Source) -> None:
        """Into the engine; parameters that make no request fail the picture alone."""
        try:
            request = self._request(request_id, claim, source)
        except Exception as error:
            log.exception("worker.request_failed", image_id=str(claim.image_id))
            reason = f"The picture's parameters could not be used: {type(error).__name__}."
            failing = asyncio.create_task(self._fail(request_id, claim, reason))
            self._loading[request_id] = failing
            return
        self._engine.submit(request)

    def _request(self, request_id: str, claim: Claim, source: Source) -> Request:
        shown = claim.request.model not in self._hidden
        return Request(
            request_id,
            claim.request.sampling(claim.index, source.image, source.mask, source.control_image),
            claim.request.preview_every(self._preview_every) if shown else 0,
            deadline_s=claim.deadline_s,
            model=claim.request.model,
        )

    def progress(self, told: Progress) -> None:
        """The engine told how far it is with a picture."""
        if (claim := self._begun.get(told.request_id)) is not None:
            self._done[told.request_id] = told.step / told.steps
            self.board.put(claim, told)

    def end(self, request_id: str) -> tuple[Claim, Source | None] | None:
        """The engine has done with a picture: its claim, unless it was forgotten before."""
        claim, source = self._begun.get(request_id), self._sources.get(request_id)
        if claim is None:
            return None
        self._forget(request_id)
        return claim, source

    def hardly_begun(self) -> list[str]:
        """The request ids of what another might as well draw, the least begun first."""
        done = {request_id: self._done.get(request_id, 0.0) for request_id in self._begun}
        return sorted((id_ for id_ in done if done[id_] < _HARDLY_BEGUN), key=done.__getitem__)

    def give_up(self, request_id: str) -> Claim | None:
        """Out of the engine again, to be handed back; None where it is not in there."""
        if not self._engine.abort(request_id):
            return None
        claim = self._begun[request_id]
        self._forget(request_id)
        return claim

    def keep(self, held: set[UUID]) -> None:
        """Stop drawing all but these pictures: the rest was cancelled, expired or taken."""
        for request_id, claim in list(self._begun.items()):
            if claim.image_id not in held:
                self._engine.abort(request_id)
                self._forget(request_id)

    def stop_loading(self) -> None:
        """What waits for its source does not reach the engine any more."""
        for task in self._loading.values():
            task.cancel()

    def _forget(self, request_id: str) -> None:
        """It is in the engine no longer, nor on its way there."""
        self.board.drop(self._begun.pop(request_id))
        self._done.pop(request_id, None)
        self._sources.pop(request_id, None)
        loading = self._loading.pop(request_id, None)
        if loading is not None and loading is not asyncio.current_task():
            loading.cancel()
