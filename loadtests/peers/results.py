"""What was measured: one JSON object a line, appended as soon as it is measured."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from loadtests.peers.arms import Arm, Configuration
from loadtests.peers.client import Sample
from loadtests.peers.machine import Machine
from loadtests.peers.plan import Trace


@dataclass(frozen=True, slots=True)
class Subject:
    """What a figure is of: pictures of one size, in pixels a side, asked for by one trace."""

    trace: Trace
    size: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """``pictures_per_s`` of a closed loop, and seconds of a picture ``alone`` by its steps."""

    subject: Subject
    configuration: Configuration
    pictures_per_s: float
    alone: dict[int, float]


@dataclass(frozen=True, slots=True)
class Pass:
    """One trace of arrivals: ``rate`` requests a second, ``load`` of the best peer's capacity.

    Passes of the same subject, rate and ``number``, the round's, have the same arrivals.
    """

    subject: Subject
    configuration: Configuration
    load: float
    rate: float
    number: int
    samples: list[Sample]


Record = Capacity | Pass | Machine
_KINDS: dict[str, TypeAdapter[Record]] = {
    kind.__name__.lower(): TypeAdapter(kind) for kind in (Capacity, Pass, Machine)
}


class Results:
    """A file. What it has already need not be measured again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[Record] = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            record = json.loads(line)
            self.records.append(_KINDS[record.pop("kind")].validate_python(record))

    def add(self, record: Record) -> None:
        """Append it to the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            kind = type(record).__name__.lower()
            file.write(json.dumps({"kind": kind, **asdict(record)}) + "\n")
        self.records.append(record)

    @property
    def passes(self) -> list[Pass]:
        return [each for each in self.records if isinstance(each, Pass)]

    @property
    def subjects(self) -> list[Subject]:
        """In the order in which they were first measured."""
        found = [each.subject for each in self.records if isinstance(each, Capacity)]
        return list(dict.fromkeys(found))

    def capacities(self, subject: Subject) -> list[Capacity]:
        """The last of each configuration."""
        found = {
            each.configuration: each
            for each in self.records
            if isinstance(each, Capacity) and each.subject == subject
        }
        return list(found.values())

    def best(self, subject: Subject, arms: Iterable[Arm]) -> Capacity | None:
        """Of the fastest configuration of these arms."""
        these = set(arms)
        found = [each for each in self.capacities(subject) if each.configuration.arm in these]
        return max(found, key=lambda each: each.pictures_per_s, default=None)

    def best_peer(self, subject: Subject) -> Capacity | None:
        """Of the fastest arm but us."""
        return self.best(subject, set(Arm) - {Arm.SFUMATO})

    def rounds(self, subject: Subject, arm: Arm, load: float) -> int:
        """How many passes of it the file has."""
        return sum(
            (each.subject, each.configuration.arm, each.load) == (subject, arm, load)
            for each in self.passes
        )
