"""History and snapshot, indexed for the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from loadtests.chaos.history import Operation, Phase, Record
from loadtests.chaos.snapshot import EventRow, ImageRow, JobRow, Snapshot, VariantRow

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise."""

    invariant: str
    """Of docs/reliability.md, such as ``I7``."""
    subject: str
    """Which job, picture, key or connection."""
    detail: str


class Evidence:
    """All that a run left behind."""

    def __init__(self, history: Iterable[Record], snapshot: Snapshot) -> None:
        self.history = list(history)
        self.snapshot = snapshot

    def records(self, operation: Operation, *phases: Phase) -> Iterator[Record]:
        """Those of the operation, in order; of all phases where none is named."""
        for record in self._by_operation[operation]:
            if not phases or record.phase in phases:
                yield record

    @cached_property
    def jobs(self) -> dict[str, JobRow]:
        return {job.id: job for job in self.snapshot.jobs}

    @cached_property
    def jobs_by_key(self) -> dict[str, list[JobRow]]:
        jobs = defaultdict(list)
        for job in self.snapshot.jobs:
            if job.key is not None:
                jobs[job.key].append(job)
        return dict(jobs)

    @cached_property
    def images(self) -> dict[str, list[ImageRow]]:
        """By job, in order."""
        images = defaultdict(list)
        for image in sorted(self.snapshot.images, key=lambda image: (image.job_id, image.index)):
            images[image.job_id].append(image)
        return dict(images)

    @cached_property
    def variants(self) -> dict[str, list[VariantRow]]:
        """By image."""
        variants = defaultdict(list)
        for variant in self.snapshot.variants:
            variants[variant.image_id].append(variant)
        return dict(variants)

    @cached_property
    def events(self) -> dict[str, list[EventRow]]:
        """By job, by number."""
        events = defaultdict(list)
        for event in sorted(self.snapshot.events, key=lambda event: (event.job_id, event.seq)):
            events[event.job_id].append(event)
        return dict(events)

    @cached_property
    def faults(self) -> list[Record]:
        """The injections."""
        return list(self.records(Operation.FAULT, Phase.INVOKE))

    @cached_property
    def _by_operation(self) -> dict[Operation, list[Record]]:
        records: dict[Operation, list[Record]] = {operation: [] for operation in Operation}
        for record in self.history:
            records[record.operation].append(record)
        return records
