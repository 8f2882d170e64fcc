"""What a process records of itself: counters, gauges and histograms, by whatever outlet it has.

`serve.observability.metrics` has those that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Counter:
    """Only grows. ``name`` ends with ``_total``; ``text`` is the help."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Gauge:
    """What holds now."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often a value lay where. ``buckets`` are upper bounds, ascending and above 0."""

    name: str
    text: str
    buckets: tuple[float, ...]
    labels: tuple[str, ...] = ()


Metric = Counter | Gauge | Histogram


class Meter(Protocol):
    """Records values. Every label of the metric is to be given, and no other.

    Safe from any thread. It never raises for what is recorded, so that a picture cannot fail by it.
    """

    def count(self, metric: Counter, amount: float = 1.0, /, **labels: str) -> None:
        """Add ``amount``, which is 0 or more."""

    def set(self, metric: Gauge, value: float, /, **labels: str) -> None: ...

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None: ...


class Meters:
    """Records into each of several meters, or into none."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def count(self, metric: Counter, amount: float = 1.0, /, **labels: str) -> None:
        for meter in self._meters:
            meter.count(metric, amount, **labels)

    def set(self, metric: Gauge, value: float, /, **labels: str) -> None:
        for meter in self._meters:
            meter.set(metric, value, **labels)

    def observe(self, metric: Histogram, value: float, /, **labels: str) -> None:
        for meter in self._meters:
            meter.observe(metric, value, **labels)


UNMETERED: Meter = Meters()
"""For a process that nobody scrapes, such as a command."""


class FirstValues:
    """Bounds a label whose values clients choose: the first so many keep their names."""

    OTHER = "other"

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: set[str] = set()

    def label(self, value: str) -> str:
        """The value, or ``other`` once ``most`` other values are known."""
        if value in self._values:
            return value
        if len(self._values) >= self._most:
            return self.OTHER
        self._values.add(value)
        return value
