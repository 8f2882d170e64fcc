"""What clients, faults and the sampler saw, one JSON line each, in the order it happened.

As in Jepsen a client's operation is told twice: ``invoke`` before it is tried, then ``ok`` (it
took place), ``fail`` (it did not) or ``info`` (nobody knows: the answer was lost).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson


class Phase(StrEnum):
    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class Operation(StrEnum):
    SUBMIT = "submit"
    """POST /v1/jobs. ``key``, ``body``; ok: ``job_id``, ``state``; fail: ``status``, ``code``."""
    GENERATE = "generate"
    """POST /v1/images/generations. ``key``, ``body``; ok: ``sha256`` of each picture."""
    CANCEL = "cancel"
    """DELETE. ``job_id``; ok: ``state`` and the ids ``succeeded``; fail: ``status``, ``code``."""
    LOOK = "look"
    """GET of a job. ``job_id``, ``state``, the ids ``succeeded``."""
    FETCH = "fetch"
    """GET of a file. ``image_id``, ``variant``; ok: ``sha256``; fail: ``status``."""
    WATCH = "watch"
    """One connection: invoke with ``connection``, ``job_id``, ``after``; info: how it ended."""
    EVENT = "event"
    """A durable event on a connection: ``connection``, ``job_id``, ``seq``, ``type``."""
    FAULT = "fault"
    """``name`` and ``number``; invoke: injected, ok: healed; ``pid`` and ``role`` of a kill."""
    CLAIMS = "claims"
    """In Postgres: ``held``, running picture → (worker, attempt, crashes), whenever it changed."""
    BEAT = "beat"
    """``worker`` renewed its lease at ``wall``, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a history."""

    process: str
    """Who: ``client-7``, ``faults``, ``sampler``."""
    phase: Phase
    operation: Operation
    value: Mapping[str, Any]
    at: float = field(default_factory=time.monotonic)
    """Seconds of the driver's monotonic clock: one clock for all records."""
    wall: float = field(default_factory=time.time)


class History:
    """Appends records to a file; each is with the kernel once ``add`` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def add(self, process: str, phase: Phase, operation: Operation, /, **value: Any) -> Record:
        record = Record(process, phase, operation, value)
        self._file.write(orjson.dumps(record, default=str) + b"\n")
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[Record]:
    """The records of a file, in order."""
    with path.open("rb") as lines:
        for line in lines:
            fields = orjson.loads(line)
            yield Record(
                process=fields["process"],
                phase=Phase(fields["phase"]),
                operation=Operation(fields["operation"]),
                value=fields["value"],
                at=fields["at"],
                wall=fields["wall"],
            )
