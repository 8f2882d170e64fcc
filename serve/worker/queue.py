"""Who gets a free place: whose turn it is among tenants, which of a tenant's pictures is next, and
the claim of the worker that takes it. Uses no database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from serve.jobs.request import JobRequest
from serve.observability.tracing import TraceContext, ids_of
from serve.pictures.stored_file import SourceKey

AFFINITY = timedelta(seconds=5)
"""A picture that fits the running batch goes before others that are due up to so much earlier.

If it were more, other shapes would wait for no good reason; if less, batches would stay empty."""

PATIENCE = timedelta(seconds=1)
"""How long a picture is left to the workers that have less to do."""

_LEAST_SECONDS = 1e-3  # the cost of a picture whose cost is unknown


class Shape(NamedTuple):
    """What pictures must share to share a step."""

    width: int
    height: int
    model: str


@dataclass(slots=True)
class QueuedPicture:
    """A picture that waits, as a row of ``images`` has it; ``seconds`` are predicted ones."""

    id: UUID
    seconds: float
    shape: Shape
    priority: int
    start_by: datetime
    queued_at: datetime
    crashes: int

    @property
    def cost(self) -> float:
        return max(_LEAST_SECONDS, self.seconds)

    def rank(self, running: Shape | None) -> tuple[int, datetime, UUID]:
        """The least goes first: by priority, then by slack, then by age.

        The slack of all pictures shrinks alike while they wait, so ``start_by`` orders them by it.
        A picture that waits long enough comes before any newcomer of the same priority.
        """
        fits = running is not None and self.shape == running
        return -self.priority, self.start_by - AFFINITY if fits else self.start_by, self.id


@dataclass(slots=True)
class TenantQueue:
    """A tenant's queued pictures, the first in order first.

    ``deficit`` is in seconds, as it is kept between calls; ``whole`` says that the tenant has no
    other pictures. The rest is set by ``take_turns``: by how much the deficit changed, how many
    turns ended, and whether the tenant's last picture was taken.
    """

    tenant_id: UUID
    pictures: Sequence[QueuedPicture]
    weight: float = 1.0
    deficit: float = 0.0
    whole: bool = True
    change: float = field(default=0.0, init=False)
    turns: int = field(default=0, init=False)
    emptied: bool = field(default=False, init=False)

    @property
    def is_background(self) -> bool:
        """Whether it draws only while no other tenant has work."""
        return not self.weight

    def covers(self, picture: QueuedPicture) -> bool:
        return self.deficit + self.change >= picture.cost


class Verdict(Enum):
    """What a worker does with the next picture."""

    TAKE = auto()
    PASS = auto()
    """Leave it, and consider the pictures after it."""
    END = auto()
    """Take neither it nor any picture after it."""


def take_turns(
    queues: Sequence[TenantQueue], limit: int, judge: Callable[[QueuedPicture], Verdict]
) -> list[QueuedPicture]:
    """Up to ``limit`` pictures, by deficit round robin; ``queues`` begin with whose turn it is.

    A turn adds a quantum times the tenant's weight to its deficit, and takes its pictures in
    their order while the deficit covers them. So tenants that have work share the seconds of the
    devices in proportion to their weights, whatever their pictures cost and however many they
    queue; an unused deficit is kept while there is work, and forgotten with the last of it. A turn
    that ``limit`` cuts short goes on with the next call. Background tenants, whose weight is 0,
    are not to be mixed with others; among themselves they take turns alike.

    M. Shreedhar, G. Varghese, "Efficient Fair Queuing Using Deficit Round-Robin", IEEE/ACM
    Transactions on Networking 4(3), 1996. The quantum is the dearest picture's seconds, so that
    every turn of weight 1 takes one.
    """
    taken: list[QueuedPicture] = []
    rests = [list(queue.pictures) for queue in queues]
    quantum = max((each.cost for rest in rests for each in rest), default=0.0)
    while any(rests):
        for queue, rest in zip(queues, rests, strict=True):
            if not rest:
                continue
            if not queue.covers(rest[0]):  # else the turn was cut short, and goes on
                queue.change += quantum * (queue.weight or 1.0)
            while rest and queue.covers(rest[0]):
                verdict = judge(rest[0]) if len(taken) < limit else Verdict.END
                if verdict is Verdict.END:
                    return taken
                picture = rest.pop(0)
                if verdict is Verdict.PASS:
                    queue.whole = False
                    continue
                queue.change -= picture.cost
                taken.append(picture)
            queue.turns += 1
            queue.emptied = not rest and queue.whole
    return taken


def ring_order(queues: Sequence[TenantQueue]) -> list[TenantQueue]:
    """Whose turn it is next: first those with the fewest turns, else in the same order."""
    return sorted(queues, key=lambda queue: queue.turns)


@dataclass(frozen=True, slots=True)
class Room:
    """A worker's places: ``free`` ones in its next step and ``spare`` ones behind it.

    It is ``holding`` so many pictures. If it holds none but those ``holding_background``, it has
    places for so many more in the ``background``.
    """

    free: int
    spare: int = 0
    holding: int = 0
    background: int = 0
    holding_background: int = 0

    @property
    def places(self) -> int:
        """For pictures that make way for nobody."""
        return self.free + self.spare


@dataclass(slots=True)
class Judge:
    """Says of one picture after another whether the worker takes it.

    ``free`` places are in the worker's next step. ``share`` is how many of the pictures that are
    queued or running fall to each of the ``workers``.

    A picture that was lost with a worker may have killed it. It is drawn alone, so that it can take
    no other with it, by a worker that holds nothing. So that one is found on a busy day as well,
    one of the workers claims nothing more until it is free: the one whose id and the picture's hash
    lowest, on which all agree without a message (rendezvous hashing: Thaler and Ravishankar, "Using
    Name-Based Mappings to Increase Hit Rates", 1998).

    A picture beyond the worker's even share, or beyond its next step, is taken only once it has
    waited for ``PATIENCE``: else the first to look would take what the others have room for.
    """

    worker_id: UUID
    free: int
    holding: int
    share: float
    workers: Sequence[UUID]
    now: datetime
    _taken: int = field(default=0, init=False)
    _alone: bool = field(default=False, init=False)

    def __call__(self, picture: QueuedPicture) -> Verdict:
        if self._alone:
            return Verdict.END
        if picture.crashes:
            if not self.holding and not self._taken:
                self._alone = True
                return Verdict.TAKE
            return Verdict.END if self._draws_alone(picture.id) else Verdict.PASS
        waited = self.now - picture.queued_at
        if self._taken >= min(self.free, self.share - self.holding) and waited < PATIENCE:
            return Verdict.PASS
        self._taken += 1
        return Verdict.TAKE

    def _draws_alone(self, image_id: UUID) -> bool:
        first = min(
            self.workers,
            key=lambda worker: hashlib.sha256(worker.bytes + image_id.bytes).digest(),
            default=None,
        )
        return first == self.worker_id


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to draw one picture, good for as long as ``attempt`` is the current one.

    ``alone``: it was lost with a worker before, and shares no step. ``deadline_s`` is what is left
    of its job's deadline, in seconds. ``waited_s`` is how long it was queued for, this time, by the
    database's clock. ``submitted_at`` is when its job was accepted.
    """

    image_id: UUID
    job_id: UUID
    tenant_id: UUID
    worker_id: UUID
    index: int
    attempt: int
    request: JobRequest
    submitted_at: datetime | None = None
    alone: bool = False
    deadline_s: float | None = field(default=None, compare=False)
    waited_s: float = field(default=0.0, compare=False)
    trace: TraceContext | None = field(default=None, compare=False)
    """That of its job, if it is recorded."""
    background: bool = field(default=False, compare=False)
    """Whether it makes way for other tenants' pictures."""

    @property
    def fence(self) -> tuple[UUID, UUID, int]:
        """By which Postgres knows whether it is the current claim."""
        return self.image_id, self.worker_id, self.attempt

    @property
    def ids(self) -> dict[str, str | int]:
        """What log lines of the picture have."""
        return {
            "job_id": str(self.job_id),
            "image_id": str(self.image_id),
            "tenant_id": str(self.tenant_id),
            "model": self.request.model,
            "attempt": self.attempt,
            **ids_of(self.trace),
        }

    @property
    def sources(self) -> dict[str, SourceKey]:
        """What it is drawn from, by the request's field that names it."""
        return self.request.sources(self.tenant_id)
