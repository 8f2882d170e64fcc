"""What a tenant's new job waits for, by the order in which claims take pictures.

Knows no database: predicts what `serve.worker.queue` does.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from serve.jobs.price import Price
from serve.jobs.request import JobRequest

EDGES_S = (0.0, *(2 ** (quarter / 4) for quarter in range(81)))
"""Between them lie the slots by which pictures are counted: seconds until one should begin. What
is overdue is one slot; the others are a fifth of that time wide, up to twelve days."""

_LEAST_S = 1e-3
_NEVER = datetime.max.replace(tzinfo=UTC)


class QueuePosition(NamedTuple):
    """Where queued pictures stand among their tenant's own; ``slot`` counts `EDGES_S` passed."""

    tenant_id: UUID
    priority: int
    slot: int


@dataclass(frozen=True, slots=True)
class PricedJob:
    """A job that is to be let in: ``n`` pictures, each of the ``price``."""

    position: QueuePosition
    n: int
    price: Price

    @classmethod
    def of(cls, tenant_id: UUID, request: JobRequest, price: Price) -> PricedJob:
        slot = bisect_right(EDGES_S, price.begin_within(request.deadline_s))
        return cls(QueuePosition(tenant_id, request.priority, slot), request.n, price)

    @property
    def seconds(self) -> float:
        """Device seconds of all of its pictures."""
        return self.n * self.price.device


@dataclass(frozen=True, slots=True)
class QueuedPictures:
    """The pictures at one position: how many, their device seconds, and the dearest one's."""

    count: int
    seconds: float
    dearest_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A tenant's place in the ring, as `serve.tables.Tenant` has it."""

    weight: float
    deficit: float
    turn_at: datetime

    @property
    def is_background(self) -> bool:
        """Whether other tenants' pictures all come before its own."""
        return not self.weight

    @property
    def quanta(self) -> float:
        """By turn; background tenants take turns alike."""
        return self.weight or 1.0


UNKNOWN_TURN = Turn(weight=1.0, deficit=0.0, turn_at=_NEVER)
"""Of a tenant whose turn was not read: the last in the ring."""


@dataclass(frozen=True, slots=True)
class PredictedWait:
    """What is drawn before a job's first picture.

    That is ``own_s`` seconds of its tenant's pictures, and ``others_s`` of other tenants', which
    have ``turns`` turns meanwhile.
    """

    own_s: float
    others_s: float
    turns: int

    @property
    def seconds(self) -> float:
        return self.own_s + self.others_s

    def is_within(self, places: int) -> bool:
        """Whether the job is among the next pictures that so many free places take."""
        return not self.own_s and self.turns < max(1, places)


class Turns:
    """The queued pictures of every tenant, and whose turn it is."""

    def __init__(
        self, turns: Mapping[UUID, Turn], queued: Mapping[QueuePosition, QueuedPictures]
    ) -> None:
        self._turns = dict(turns)
        self._queued = queued
        self._positions: dict[UUID, list[QueuePosition]] = defaultdict(list)
        for position in queued:
            self._positions[position.tenant_id].append(position)
        self._seconds: dict[UUID, float] = {}
        self._head_s: dict[UUID, float] = {}
        """Of the picture that each tenant has drawn next."""
        self._dearest_s = 0.0
        for tenant_id, positions in self._positions.items():
            head = queued[min(positions, key=_order)]
            self._seconds[tenant_id] = sum(queued[position].seconds for position in positions)
            self._head_s[tenant_id] = head.seconds / head.count
            self._dearest_s = max(self._dearest_s, head.dearest_s)

    def knows(self, tenant_id: UUID) -> bool:
        return tenant_id in self._turns

    def add(self, tenant_id: UUID, turn: Turn) -> None:
        """The turn of a tenant that had nothing queued."""
        self._turns[tenant_id] = turn

    def wait(self, job: PricedJob, added_s: Mapping[QueuePosition, float]) -> PredictedWait:
        """What is drawn before the job; ``added_s`` are seconds that came since this was read.

        By deficit round robin the job is begun in the turn in which its tenant has been given the
        seconds of all that it queued before, and of one picture of the job. Until then every other
        tenant has as many turns, or one fewer, and takes no more than it has queued. Before a
        background tenant's job comes all that others have queued, and its own before nobody's.
        """
        tenant_id = job.position.tenant_id
        own_s = sum(
            self._queued[position].seconds
            for position in self._positions.get(tenant_id, ())
            if _order(position) <= _order(job.position)
        )
        others_queued_s = dict(self._seconds)
        for position, seconds in added_s.items():
            other_id = position.tenant_id
            others_queued_s[other_id] = others_queued_s.get(other_id, 0.0) + seconds
            if other_id == tenant_id and _order(position) <= _order(job.position):
                own_s += seconds
        others_queued_s.pop(tenant_id, None)
        turn = self._turns.get(tenant_id, UNKNOWN_TURN)
        picture_s = job.price.device
        quantum = max(self._dearest_s, picture_s, _LEAST_S)
        head_s = self._head_s.get(tenant_id, picture_s)
        needed_s = max(0.0, own_s + picture_s - turn.deficit)
        turns = max(1, _has_begun(turn, head_s) + math.ceil(needed_s / (quantum * turn.quanta)))
        others_s, others_turns = 0.0, 0
        for other_id, seconds in others_queued_s.items():
            other = self._turns.get(other_id, UNKNOWN_TURN)
            if other.is_background != turn.is_background:
                if turn.is_background:
                    others_s += seconds
                    others_turns += math.ceil(seconds / quantum)
                continue
            is_first = (other.turn_at, other_id) < (turn.turn_at, tenant_id)
            other_turns = turns if is_first else turns - 1
            if other_turns:
                quanta = other_turns - _has_begun(other, self._head_s.get(other_id, seconds))
                others_s += min(seconds, other.deficit + quanta * quantum * other.quanta)
                others_turns += other_turns
        return PredictedWait(own_s, others_s, others_turns)


def _has_begun(turn: Turn, head_s: float) -> bool:
    """Whether a claim without more room cut the tenant's turn short.

    Such a turn goes on and adds no quantum.
    """
    return turn.deficit >= head_s


def _order(position: QueuePosition) -> tuple[int, int]:
    """The least goes first among a tenant's own, as `serve.worker.queue` ranks pictures."""
    return -position.priority, position.slot
