"""Which queued pictures a worker takes next. Uses no database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from serve.jobs.fairness import Picture, Verdict

AFFINITY = timedelta(seconds=5)
"""A picture that fits the running batch goes before others that are due up to so much earlier.

If it were more, other shapes would wait for no good reason; if less, batches would stay empty."""

PATIENCE = timedelta(seconds=1)
"""How long a picture is left to the workers that have less to do."""


class Shape(NamedTuple):
    """What pictures must share to share a step."""

    width: int
    height: int
    model: str


@dataclass(slots=True)
class QueuedPicture(Picture):
    """A picture that waits, as a row of ``images`` has it."""

    shape: Shape
    priority: int
    start_by: datetime
    queued_at: datetime
    crashes: int

    def rank(self, running: Shape | None) -> tuple[int, datetime, UUID]:
        """The least goes first: by priority, then by slack, then by age.

        The slack of all pictures shrinks alike while they wait, so ``start_by`` orders them by it.
        A picture that waits long enough comes before any newcomer of the same priority.
        """
        fits = running is not None and self.shape == running
        return -self.priority, self.start_by - AFFINITY if fits else self.start_by, self.id


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
