"""What a tenant's new job waits for, by the order in which claims take pictures.

Knows no database: predicts what `serve.jobs.fairness` and `serve.worker.queue` do.
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


class Place(NamedTuple):
    """Where queued pictures stand among their tenant's own; ``slot`` counts `EDGES_S` passed."""

    tenant_id: UUID
    priority: int
    slot: int


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A job that asks to be let in: ``n`` pictures of ``picture_s`` device seconds each."""

    place: Place
    n: int
    picture_s: float

    @classmethod
    def of(cls, tenant_id: UUID, request: JobRequest, price: Price) -> Newcomer:
        slot = bisect_right(EDGES_S, price.begin_within(request.deadline_s))
        return cls(Place(tenant_id, request.priority, slot), request.n, price.device)

    @property
    def seconds(self) -> float:
        """Device seconds of all of its pictures."""
        return self.n * self.picture_s


@dataclass(frozen=True, slots=True)
class Waiting:
    """Queued pictures of one place: how many, their device seconds, and the dearest one's."""

    count: int
    seconds: float
    dearest_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A tenant's place in the ring, as `serve.tables.Tenant` has it."""

    weight: float
    deficit: float
    turn_at: datetime


UNKNOWN = Turn(weight=1.0, deficit=0.0, turn_at=_NEVER)
"""Of a tenant that was not looked for: the last in the ring."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Before a job's first picture: ``own_s`` seconds of its tenant's pictures, ``others_s`` of
    other tenants', which have ``turns`` turns."""

    own_s: float
    others_s: float
    turns: int

    @property
    def seconds(self) -> float:
        return self.own_s + self.others_s

    def within(self, places: int) -> bool:
        """Whether the job is among the next pictures that so many free places take."""
        return not self.own_s and self.turns < max(1, places)


class Turns:
    """The queued pictures of every tenant, and whose turn it is."""

    def __init__(self, ring: Mapping[UUID, Turn], waiting: Mapping[Place, Waiting]) -> None:
        self._ring = dict(ring)
        self._waiting = waiting
        self._places: dict[UUID, list[Place]] = defaultdict(list)
        for place in waiting:
            self._places[place.tenant_id].append(place)
        self._seconds = {
            tenant_id: sum(waiting[place].seconds for place in places)
            for tenant_id, places in self._places.items()
        }
        heads = {
            tenant_id: waiting[min(places, key=_order)]
            for tenant_id, places in self._places.items()
        }
        self._head_s = {tenant_id: head.seconds / head.count for tenant_id, head in heads.items()}
        self._dearest_s = max((head.dearest_s for head in heads.values()), default=0.0)

    def knows(self, tenant_id: UUID) -> bool:
        return tenant_id in self._ring

    def learn(self, tenant_id: UUID, turn: Turn) -> None:
        """The turn of a tenant that had nothing queued."""
        self._ring[tenant_id] = turn

    def wait(self, newcomer: Newcomer, let_in: Mapping[Place, float]) -> Wait:
        """What is drawn before the job; ``let_in`` are seconds that came since this was read.

        By deficit round robin the job is begun in the turn in which its tenant has been given the
        seconds of all that it queued before, and of one picture of the job. Until then every other
        tenant has as many turns, or one fewer, and takes no more than it has queued.
        """
        tenant_id = newcomer.place.tenant_id
        own_s = sum(
            self._waiting[place].seconds
            for place in self._places.get(tenant_id, ())
            if _order(place) <= _order(newcomer.place)
        )
        queued = dict(self._seconds)
        for place, seconds in let_in.items():
            queued[place.tenant_id] = queued.get(place.tenant_id, 0.0) + seconds
            if place.tenant_id == tenant_id and _order(place) <= _order(newcomer.place):
                own_s += seconds
        queued.pop(tenant_id, None)
        turn = self._ring.get(tenant_id, UNKNOWN)
        quantum = max(self._dearest_s, newcomer.picture_s, _LEAST_S)
        head_s = self._head_s.get(tenant_id, newcomer.picture_s)
        needed = max(0.0, own_s + newcomer.picture_s - turn.deficit)
        turns = max(1, _begun(turn, head_s) + math.ceil(needed / (quantum * turn.weight)))
        others_s, others_turns = 0.0, 0
        for other_id, seconds in queued.items():
            other = self._ring.get(other_id, UNKNOWN)
            first = (other.turn_at, other_id) < (turn.turn_at, tenant_id)
            had = turns if first else turns - 1
            if had:
                quanta = had - _begun(other, self._head_s.get(other_id, seconds))
                others_s += min(seconds, other.deficit + quanta * quantum * other.weight)
                others_turns += had
        return Wait(own_s, others_s, others_turns)


def _begun(turn: Turn, head_s: float) -> bool:
    """Whether the tenant's turn was cut short by a claim that had no more room: it goes on, and
    adds no quantum."""
    return turn.deficit >= head_s


def _order(place: Place) -> tuple[int, int]:
    """The least goes first among a tenant's own, as `serve.worker.queue` ranks pictures."""
    return -place.priority, place.slot
