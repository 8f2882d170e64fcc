"""Who takes the next denoising step. Free of torch: it knows identifiers, shapes and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import count


@dataclass(slots=True)
class _Entry:
    request_id: str
    key: Hashable
    place: int  # in the queue; at the end of it again after each step, for ties
    since: float  # when it arrived, then when it was last given a step
    active: bool = False


class StepBatcher:
    """Forms one step batch after another out of the requests in its care.

    Requests whose tensors can share a forward pass have equal keys; they are a lane, and a step
    batch is drawn from one lane. At most ``max_batch`` requests are active, over all lanes: the
    rest wait in order of arrival. The cap counts requests, not rows (a guided request costs a
    UNet two rows), because callers claim work in requests.

    Requests age while they are given no step, and the oldest one's lane goes next. So lanes
    alternate, and a request waits for at most one step of every other active request.
    """

    def __init__(self, max_batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; a step batch holds at least one request.")
        self.max_batch = max_batch
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # in order of arrival
        self._places = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    @property
    def active(self) -> int:
        return sum(entry.active for entry in self._entries.values())

    @property
    def waiting(self) -> int:
        return len(self._entries) - self.active

    def add(self, request_id: str, key: Hashable) -> None:
        """Raises ValueError for an identifier that is already here."""
        if request_id in self._entries:
            raise ValueError(f"Request {request_id!r} is in the engine already.")
        self._entries[request_id] = _Entry(request_id, key, next(self._places), self._clock())

    def remove(self, request_id: str) -> bool:
        """Whether it was here. Its slot is free for the next step."""
        return self._entries.pop(request_id, None) is not None

    def limit(self, max_batch: int) -> None:
        """Lowers the cap for good, because the device was found to hold no more."""
        self.max_batch = max(1, min(self.max_batch, max_batch))

    def next_batch(self) -> list[str]:
        """The requests that take the next step, the longest unserved first; empty without work."""
        self._admit()
        now = self._clock()
        active = [entry for entry in self._entries.values() if entry.active]
        active.sort(key=lambda entry: (-self._urgency(entry, now), entry.place))
        batch = [entry for entry in active if entry.key == active[0].key][: self.max_batch]
        for entry in batch:
            entry.since, entry.place = now, next(self._places)
        return [entry.request_id for entry in batch]

    def _admit(self) -> None:
        free = self.max_batch - self.active
        for entry in self._entries.values():
            if free <= 0:
                break
            if not entry.active:
                entry.active = True
                free -= 1

    def _urgency(self, entry: _Entry, now: float) -> float:
        """Seconds without a step. Deadlines belong here: the less slack, the more urgent."""
        return now - entry.since
