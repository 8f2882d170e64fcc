"""Which queued pictures a worker takes next. Knows no database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from serve.jobs.fairness import Picture, Verdict

AFFINITY = timedelta(seconds=5)
"""What it is worth that a picture fits the running batch: it goes before others that are due up
to so much earlier. More, and other shapes wait for no good reason; less, and batches stay empty."""

PATIENCE = timedelta(seconds=1)
"""How long a picture is left to the workers that have less to do."""


class Shape(NamedTuple):
    """What pictures must share to share a step."""

    width: int
    height: int
    model: str


@dataclass(slots=True)
class QueuedPicture(Picture):
    """A picture that waits, as the tables tell of it."""

    shape: Shape
    priority: int
    start_by: datetime
    queued_at: datetime
    crashes: int

    def rank(self, running: Shape | None) -> tuple[int, datetime, UUID]:
        """The least goes first: by priority, then by slack, then by age.

        The slack of all falls alike while they wait, so that ``start_by`` orders them by it; and
        whoever waits long enough comes before any newcomer of the same priority.
        """
        fits = running is not None and self.shape == running
        return -self.priority, self.start_by - AFFINITY if fits else self.start_by, self.id


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker can take on, and what the others have.

    ``free`` places are in its next step. ``share`` is how many of the pictures that are queued or
    running fall to each worker.
    """

    worker_id: UUID
    free: int
    holding: int
    share: float
    workers: Sequence[UUID]
    now: datetime


class Judge:
    """Says of one picture after another whether the worker takes it.

    A picture that was lost with a worker may have been what killed it. It is drawn alone, so that
    it can take no other with it: by a worker that holds nothing. So that one is found on a busy
    day as well, one of the workers claims nothing more until it is free: the one whose id and the
    picture's hash lowest, which all agree on without a word (rendezvous hashing: Thaler and
    Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998).

    A picture beyond the worker's even share, or beyond its next step, is taken only once it has
    waited for ``PATIENCE``: else the first to look would take what the others have room for.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0
        self._alone = False
        self._eager = min(room.free, room.share - room.holding)

    def __call__(self, picture: QueuedPicture) -> Verdict:
        if self._alone:
            return Verdict.END
        if picture.crashes:
            return self._suspect(picture)
        waited = self._room.now - picture.queued_at
        if self._taken >= self._eager and waited < PATIENCE:
            return Verdict.PASS
        self._taken += 1
        return Verdict.TAKE

    def _suspect(self, picture: QueuedPicture) -> Verdict:
        if not self._room.holding and not self._taken:
            self._alone = True
            return Verdict.TAKE
        return Verdict.END if self._draws_alone(picture.id) else Verdict.PASS

    def _draws_alone(self, image_id: UUID) -> bool:
        first = min(
            self._room.workers,
            key=lambda worker: hashlib.sha256(worker.bytes + image_id.bytes).digest(),
            default=None,
        )
        return first == self._room.worker_id
