"""What a process counts of the events that it sends to clients."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from time import monotonic

from serve.events.event import Event, EventType
from serve.observability.meter import Meter
from serve.observability.metrics import EVENT_DELAY, EVENTS_DROPPED, EVENTS_SENT

_KNOWN = frozenset(EventType)
_TELL_EVERY_S = 0.5
_DELAY_EVERY_S = 0.005


class EventTally:
    """Counts in numbers of its own, and tells the meter twice a second.

    An event that goes to thousands of sockets must not cost each of them a call of the meter, and
    the delay is measured 200 times a second at most.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._sent: Counter[EventType] = Counter()
        self._dropped: Counter[EventType] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._measure_at = 0.0

    def sent(self, event: Event, following_since: datetime) -> None:
        """It is with the client's connection. One from before ``following_since`` has no delay:
        the client asked for it later."""
        self._sent[event.type] += 1
        self._tell_soon()
        now = monotonic()
        if now >= self._measure_at and event.created_at >= following_since:
            self._measure_at = now + _DELAY_EVERY_S
            delay = (datetime.now(UTC) - event.created_at).total_seconds()
            self._meter.observe(
                EVENT_DELAY, max(0.0, delay)
            )  # the clock is Postgres' or a worker's

    def dropped(self, event: Event) -> None:
        """A client that lags behind never gets it."""
        self._dropped[event.type] += 1
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TELL_EVERY_S, self.tell)

    def tell(self) -> None:
        """Tell the meter what was counted since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for counts, metric in ((self._sent, EVENTS_SENT), (self._dropped, EVENTS_DROPPED)):
            for type_, number in counts.items():
                # A newer version's types are not known, and could be any number.
                known = type_.value if type_ in _KNOWN else "other"
                self._meter.count(metric, number, type=known)
            counts.clear()
