"""Whose turn it is among tenants: deficit round robin. Knows no database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar
from uuid import UUID

_LEAST_SECONDS = 1e-3  # the cost of a picture whose cost is unknown


class Verdict(Enum):
    """What a worker does with the next picture."""

    TAKE = auto()
    PASS = auto()
    """Leave it, and consider the pictures after it."""
    END = auto()
    """Take neither it nor any picture after it."""


@dataclass(slots=True)
class Picture:
    """A queued picture, as far as turns are concerned; ``seconds`` of a device."""

    id: UUID
    seconds: float


P = TypeVar("P", bound=Picture)


@dataclass(slots=True)
class TenantQueue(Generic[P]):
    """A tenant's queued pictures, the first in order first.

    ``deficit`` is in seconds, as it is kept between calls; ``whole`` says that the tenant has no
    other pictures. The rest is set by ``take_turns``: by how much the deficit changed, how many
    turns ended, and whether the tenant's last picture was taken.
    """

    tenant_id: UUID
    pictures: Sequence[P]
    weight: float = 1.0
    deficit: float = 0.0
    whole: bool = True
    change: float = field(default=0.0, init=False)
    turns: int = field(default=0, init=False)
    emptied: bool = field(default=False, init=False)

    def covers(self, picture: P) -> bool:
        return self.deficit + self.change >= _cost(picture)


def take_turns(
    queues: Sequence[TenantQueue[P]], limit: int, judge: Callable[[P], Verdict]
) -> list[P]:
    """Up to ``limit`` pictures, by deficit round robin; ``queues`` begin with whose turn it is.

    A turn adds a quantum times the tenant's weight to its deficit, and takes its pictures in
    their order while the deficit covers them. So tenants that have work share the seconds of the
    devices in proportion to their weights, whatever their pictures cost and however many they
    queue; an unused deficit is kept while there is work, and forgotten with the last of it. A turn
    that ``limit`` cuts short goes on with the next call.

    M. Shreedhar, G. Varghese, "Efficient Fair Queuing Using Deficit Round-Robin", IEEE/ACM
    Transactions on Networking 4(3), 1996. The quantum is the dearest picture's seconds, so that
    every turn of weight 1 takes one.
    """
    taken: list[P] = []
    rests = [list(queue.pictures) for queue in queues]
    quantum = max((_cost(each) for rest in rests for each in rest), default=0.0)
    while any(rests):
        for queue, rest in zip(queues, rests, strict=True):
            if not rest:
                continue
            if not queue.covers(rest[0]):  # else the turn was cut short, and goes on
                queue.change += quantum * queue.weight
            while rest and queue.covers(rest[0]):
                verdict = judge(rest[0]) if len(taken) < limit else Verdict.END
                if verdict is Verdict.END:
                    return taken
                picture = rest.pop(0)
                if verdict is Verdict.PASS:
                    queue.whole = False
                    continue
                queue.change -= _cost(picture)
                taken.append(picture)
            queue.turns += 1
            queue.emptied = not rest and queue.whole
    return taken


def ring_order(queues: Sequence[TenantQueue[P]]) -> list[TenantQueue[P]]:
    """Whose turn it is next: first those with the fewest turns, else in the same order."""
    return sorted(queues, key=lambda queue: queue.turns)


def _cost(picture: Picture) -> float:
    return max(_LEAST_SECONDS, picture.seconds)
