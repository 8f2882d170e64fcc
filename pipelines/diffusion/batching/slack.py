"""Whose turn it is: by slack, with ageing. Free of torch."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

SOFT_DEADLINE = 5
"""A request without a deadline is due after so many times its predicted seconds alone."""

SLACK_WEIGHT = 0.1
"""How a second of slack counts against a second of work, for who can still be in time.

0 would be shortest remaining first, 1 the earliest deadline first. The one lets a long request's
deadline pass unheeded; the other, under overload, begins them all and finishes them all late.
"""

LATE_WEIGHT = 8
"""How a second of work counts for who can be in time no more: it yields to those who can."""

AGEING = 0.1
"""How fast a late request comes to the front again, in seconds of rank a second."""


@dataclass(slots=True)
class QueuedRequest:
    """A request in the batcher's care. Times are on the batcher's clock, in seconds."""

    id: str
    key: Hashable
    place: int  # in the order of arrival
    due: float  # its deadline, or the soft one; not before its arrival
    seconds: float  # of work left, predicted for when it is alone
    size: int  # bytes it holds once it has begun
    fill: float  # its share of the rows for which a step has memory
    saturation: float  # its share of the rows at which the device saturates
    background: bool = False  # takes no step while another request is in
    begun: bool = False  # set by the batcher with its first step

    def rank(self, now: float) -> float:
        """The least goes first. ``slack`` is what is left after its work until it is due.

        With slack it is ``seconds + SLACK_WEIGHT * slack``, never negative; once late it is
        ``LATE_WEIGHT * seconds + AGEING * slack``, which falls without end. At
        ``due + (LATE_WEIGHT / AGEING - 1) * seconds`` it has fallen so far that the request goes
        before every one that arrives later, whatever that one's deadline: as it is due no sooner
        than it arrives, its rank is the higher, then and ever after.
        """
        slack = self.due - now - self.seconds
        if slack >= 0:
            return self.seconds + SLACK_WEIGHT * slack
        return LATE_WEIGHT * self.seconds + AGEING * slack
