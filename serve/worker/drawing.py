"""The life of a picture in a worker: fetch its sources and LoRAs, draw, deliver, complete."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.diffusion.errors import EngineStoppedError
from pipelines.diffusion.request import (
    Displaced,
    Expired,
    Failure,
    Output,
    Progress,
    Request,
    Result,
    SamplingParams,
)
from pipelines.imaging.enlarge import enlarge
from serve.events.bus import EventBus
from serve.jobs.request import HiresFix
from serve.moderation.errors import refused_picture
from serve.observability.logging import hide
from serve.observability.meter import Meter
from serve.observability.metrics import STEPS_DISCARDED
from serve.observability.tracing import TraceContext
from serve.worker.claims import Claims
from serve.worker.delivery import StoredPicture
from serve.worker.errors import PictureFailed
from serve.worker.progress import ProgressBoard
from serve.worker.queue import Claim, Shape
from serve.worker.source import Source
from serve.worker.stages import Stages

if TYPE_CHECKING:
    from pipelines.diffusion.runner import EngineRunner

log = structlog.get_logger(__name__)

LoadSource = Callable[[Claim], Awaitable[Source]]
"""Fetches what a claim is drawn from; raises PictureFailed."""

_HARDLY_BEGUN = 0.1  # of its steps: so much may be drawn again elsewhere


class PictureStore(Protocol):
    """Where pictures go: `serve.worker.delivery.Delivery`."""

    async def store(
        self, image: NDArray[np.uint8], claim: Claim, trace: TraceContext | None
    ) -> StoredPicture: ...
    async def discard(self, claim: Claim) -> None: ...


@dataclass(slots=True, eq=False)
class _Picture:
    """A claimed picture. ``output`` is what the engine makes of it; None: it is handed back."""

    claim: Claim
    request_id: str
    output: asyncio.Future[Result | Failure | Expired | None]
    stages: Stages
    submitted: bool = False
    first_steps: int = 0
    """Steps of the first of two passes, once it is done."""
    steps_done: int = 0
    share_done: float = 0.0
    task: asyncio.Task[None] = field(init=False)

    @property
    def drawing(self) -> bool:
        """Whether it waits for its sources or for the engine."""
        return not self.output.done()

    def whole_progress(self, progress: Progress) -> Progress:
        """Of all passes."""
        if self.claim.request.hires is None:
            return progress
        step = self.first_steps + progress.step
        return replace(progress, step=step, steps=self.claim.request.made_steps)


class Drawings:
    """Every picture that the worker has in hand, from its claim to the commit.

    ``board`` publishes their progress.
    """

    engine: EngineRunner
    """To be set before the first picture."""

    def __init__(
        self,
        claims: Claims,
        bus: EventBus,
        load_source: LoadSource,
        store: PictureStore,
        preview_every: int,
        hidden: Collection[str],
        meter: Meter,
    ) -> None:
        """``preview_every`` is in steps, for requests that ask for nothing else; 0 for none.

        ``hidden`` are models whose pictures nobody may see before they are done.
        """
        self.board = ProgressBoard(bus)
        self._claims = claims
        self._bus = bus
        self._load_source = load_source
        self._store = store
        self._preview_every = preview_every
        self._hidden = hidden
        self._meter = meter
        self._pictures: dict[str, _Picture] = {}  # by request id

    def begin(self, claim: Claim) -> None:
        """Start a picture's life, as a task of its own: it may take as long as Postgres is away."""
        request_id = f"{claim.image_id}.{claim.attempt}"
        output = asyncio.get_running_loop().create_future()
        stages = Stages(claim, self._claims.pool, self._meter)
        picture = self._pictures[request_id] = _Picture(claim, request_id, output, stages)
        with structlog.contextvars.bound_contextvars(**claim.ids):
            picture.task = asyncio.create_task(self._live(picture), name=f"picture {request_id}")
        picture.task.add_done_callback(lambda _: self._end(picture))

    async def _live(self, picture: _Picture) -> None:
        """Whatever goes wrong, the claim is ended here; one that expired the reaper ends."""
        claim, stages = picture.claim, picture.stages
        hide(claim.request.prompt, claim.request.negative_prompt)
        try:
            source = Source()
            if claim.sources or claim.request.lora_files:
                with _failing("The source picture or a LoRA could not be read"):
                    source = await self._load_source(claim)
            with _failing("The picture's parameters could not be used"):
                sampling = claim.request.sampling(
                    claim.index, source.image, source.mask, source.control_image
                )
                self._submit(picture, sampling, source)
            drawn = await picture.output
            if isinstance(drawn, Result) and claim.request.hires is not None:
                drawn = await self._draw_again(picture, drawn, claim.request.hires, source)
            if isinstance(drawn, Result):
                with _failing("The picture could not be delivered"):
                    await self._deliver(picture, source.kept_in(drawn.image), drawn)
            elif isinstance(drawn, Failure):
                raise _failure(drawn)
            elif drawn is None:
                stages.outcome = "handed_back"
                await self._claims.hand_back(claim)
            else:
                stages.outcome = "expired"
        except PictureFailed as error:
            stages.failed(error.code or "picture_failed")
            tell = log.error if error.unexpected else log.warning
            tell("picture.failed", error=str(error), code=error.code, exc_info=error.unexpected)
            failed = await self._claims.fail(claim, str(error), error.code)
            # Files go only once it is certain that this attempt is never committed.
            if failed and picture.output.done():
                await self._store.discard(claim)

    async def _draw_again(
        self, picture: _Picture, first: Result, hires: HiresFix, source: Source
    ) -> Result | Failure | Expired | None:
        """The second pass, from the first one's picture."""
        request, index = picture.claim.request, picture.claim.index
        with _failing("The picture could not be enlarged"):
            image = await asyncio.to_thread(enlarge, first.image, request.width, request.height)
            picture.output = asyncio.get_running_loop().create_future()
            picture.first_steps = request.num_inference_steps
            self._submit(picture, request.second_sampling(index, hires, image), source)
        second = await picture.output
        if not isinstance(second, Result):
            return second
        return replace(second, timing=first.timing.followed_by(second.timing))

    async def _deliver(self, picture: _Picture, image: NDArray[np.uint8], drawn: Result) -> None:
        """Store the ``image`` and commit it; raises PictureFailed."""
        claim, stages = picture.claim, picture.stages
        stages.drawn(drawn.timing)
        began = monotonic()
        stored = await self._store.store(image, claim, stages.context)
        storing_s = monotonic() - began
        stages.stored(stored)
        with stages.committing():
            committed = await self._claims.complete(
                claim,
                stored.files,
                drawn.seconds,
                storing_s,
                drawn.reading,
                blurhash=stored.blurhash,
                critique=stored.critique,
            )
        if committed:
            stages.outcome = "succeeded"
        event = "picture.succeeded" if committed else "picture.claim_lost"
        log.info(event, seconds=round(drawn.seconds, 4))

    def _submit(self, picture: _Picture, sampling: SamplingParams, source: Source) -> None:
        claim = picture.claim
        hidden = claim.request.model in self._hidden
        request = Request(
            picture.request_id,
            sampling,
            0 if hidden else claim.request.preview_every(self._preview_every),
            deadline_s=claim.deadline_s,
            model=claim.request.model,
            lora_files=source.loras,
            background=claim.background,
        )
        # The claims of an engine that died are retried elsewhere.
        with suppress(EngineStoppedError):
            self.engine.submit(request)
            picture.submitted = True

    def _end(self, picture: _Picture) -> None:
        del self._pictures[picture.request_id]
        picture.stages.end()
        self.board.drop(picture.claim)
        outcome = picture.stages.outcome
        if outcome != "succeeded":
            reason = "cancelled" if outcome == "dropped" else outcome  # or another worker has it
            self._meter.count(STEPS_DISCARDED, picture.steps_done, reason=reason)
        if not picture.submitted:
            self._bus.work.set()  # a slot is free

    def receive(self, outputs: list[Output]) -> None:
        """Take what the engine has made."""
        if self.engine.failed:  # what it held is retried elsewhere, and fails no job
            self._bus.work.set()
            return
        for output in outputs:
            picture = self._pictures.get(output.request_id)
            if picture is None or not picture.drawing:
                continue
            if isinstance(output, Progress):
                progress = picture.whole_progress(output)
                picture.steps_done = progress.step
                picture.share_done = progress.step / progress.steps
                self.board.put(picture.claim, progress)
            else:
                self._leave_engine(picture, None if isinstance(output, Displaced) else output)
                self._bus.work.set()  # a slot is free

    def _leave_engine(self, picture: _Picture, output: Result | Failure | Expired | None) -> None:
        picture.output.set_result(output)
        self.board.drop(picture.claim)

    def __iter__(self) -> Iterator[Claim]:
        """What is drawn, or waits for it; not what is being delivered."""
        return (picture.claim for picture in self._pictures.values() if picture.drawing)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def foreground(self) -> list[Claim]:
        """Those of them that make way for nobody."""
        return [claim for claim in self if not claim.background]

    @property
    def loading(self) -> int:
        """How many of these the engine does not count yet: they wait for their sources."""
        return sum(
            each.drawing and not each.submitted and not each.claim.background
            for each in self._pictures.values()
        )

    @property
    def delivering(self) -> int:
        """How many are out of the engine, but not yet committed."""
        return len(self._pictures) - len(self)

    @property
    def in_hand(self) -> list[Claim]:
        """Whatever is drawn or delivered."""
        return [picture.claim for picture in self._pictures.values()]

    @property
    def shape(self) -> Shape | None:
        """What most of the pictures that are drawn share; in the background only if no other is."""
        requests = [claim.request for claim in self.foreground or self]
        shapes = Counter(Shape(each.width, each.height, each.model) for each in requests)
        return max(shapes, key=shapes.__getitem__, default=None)

    def hardly_begun(self) -> list[str]:
        """The request ids of what another might as well draw, the least begun first."""
        hardly = [
            picture
            for picture in self._pictures.values()
            if picture.drawing
            and not picture.claim.background
            and picture.share_done < _HARDLY_BEGUN
        ]
        return [each.request_id for each in sorted(hardly, key=lambda each: each.share_done)]

    def hand_back(self, request_id: str) -> None:
        """Take the picture out of the engine, and queue it again; unless it is not in there."""
        if self.engine.abort(request_id):
            self._leave_engine(self._pictures[request_id], None)

    def make_way(self, claims: Collection[Claim]) -> None:
        """Hand back background pictures that must not share the engine with these new ones.

        One that was lost with a worker may take others with it.
        """
        suspects = any(claim.alone for claim in claims if not claim.background)
        for picture in list(self._pictures.values()):
            if picture.drawing and picture.claim.background and (suspects or picture.claim.alone):
                self.hand_back(picture.request_id)

    def keep(self, held: Collection[UUID]) -> None:
        """Stop drawing all but these pictures: the rest was cancelled, expired or taken."""
        for picture in list(self._pictures.values()):
            if picture.drawing and picture.claim.image_id not in held:
                self.engine.abort(picture.request_id)
                self._stop(picture)
                log.info("picture.dropped", **picture.claim.ids)

    def stop(self) -> None:
        """End every picture's life where it is; the claims stay open."""
        for picture in self._pictures.values():
            picture.stages.outcome = "handed_back"
            self._stop(picture)

    def _stop(self, picture: _Picture) -> None:
        picture.task.cancel()
        picture.output.cancel()
        self.board.drop(picture.claim)

    async def wait(self, timeout_s: float) -> None:
        """Until every picture's life has ended, but not for longer than so many seconds."""
        await asyncio.wait([each.task for each in self._pictures.values()], timeout=timeout_s)


@contextmanager
def _failing(problem: str) -> Iterator[None]:
    """An error in this part of a picture's life fails the picture alone.

    Of an unexpected one the client learns the ``problem`` and its type.
    """
    try:
        yield
    except PictureFailed:
        raise
    except Exception as error:
        message = f"{problem}: {type(error).__name__}."
        raise PictureFailed(message, unexpected=error) from error


def _failure(output: Failure) -> PictureFailed:
    if not output.unsafe:
        return PictureFailed(output.reason, unexpected=output.error)
    refused = refused_picture()
    return PictureFailed(refused.message, refused.code)
