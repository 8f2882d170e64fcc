"""A small run in which every promise was kept, for tests to break one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from loadtests.chaos.checker import check
from loadtests.chaos.evidence import Violation
from loadtests.chaos.history import Operation, Phase, Record
from loadtests.chaos.snapshot import EventRow, File, ImageRow, JobRow, Snapshot, VariantRow


@dataclass
class Run:
    """Records and rows, open to damage."""

    history: list[Record] = field(default_factory=list)
    snapshot: Snapshot = field(default_factory=Snapshot)

    def tell(self, who: str, phase: Phase, operation: Operation, **value: Any) -> None:
        self.history.append(Record(who, phase, operation, value, at=float(len(self.history))))

    def find(self, who: str, phase: Phase, operation: Operation) -> int:
        """Where the first such record is."""
        return next(
            index
            for index, record in enumerate(self.history)
            if (record.process, record.phase, record.operation) == (who, phase, operation)
        )

    def amend(self, who: str, phase: Phase, operation: Operation, **value: Any) -> None:
        """Make a record say something else."""
        index = self.find(who, phase, operation)
        record = self.history[index]
        self.history[index] = replace(record, value={**record.value, **value})

    def amend_row(self, table: list[Any], name: str, **fields: Any) -> None:
        index = next(i for i, row in enumerate(table) if row.id == name)
        table[index] = replace(table[index], **fields)

    def violations(self) -> list[Violation]:
        return check(self.history, self.snapshot)


def clean_run() -> Run:
    """Jobs that succeeded (followed over a reconnect), failed, expired, were cancelled."""
    run = Run()
    run.tell("faults", Phase.INVOKE, Operation.FAULT, name="fill-storage", number=0)
    _job(run, "good", "succeeded", ["succeeded", "succeeded"], attempt=2)
    _job(run, "full", "failed", ["failed"], error="The disk is full: make room on it.")
    _job(run, "crash", "failed", ["cancelled"], error="It was lost with its worker 3 times.")
    run.amend_row(run.snapshot.images, "crash-0", crashes=3, attempt=3)
    _job(run, "late", "expired", ["expired"], has_deadline=True)
    _job(run, "gone", "cancelled", ["succeeded", "cancelled"])
    _job(run, "sync", "succeeded", ["succeeded"], operation=Operation.GENERATE)
    _cancel(run)
    _watch(run)
    _claims(run)
    look = {"job_id": "good", "state": "succeeded", "succeeded": ["good-0", "good-1"]}
    run.tell("good", Phase.OK, Operation.LOOK, **look)
    fetched = {"image_id": "good-0", "variant": "original", "sha256": "good-0 original"}
    run.tell("good", Phase.OK, Operation.FETCH, **fetched)
    return run


def _job(
    run: Run,
    name: str,
    state: str,
    pictures: list[str],
    *,
    error: str | None = None,
    has_deadline: bool = False,
    attempt: int = 1,
    operation: Operation = Operation.SUBMIT,
) -> None:
    told: dict[str, Any] = {"key": f"key-{name}", "body": {"prompt": name}}
    run.tell(name, Phase.INVOKE, operation, **told)
    if operation is Operation.SUBMIT:
        run.tell(name, Phase.OK, operation, **told, job_id=name, state="queued")
    else:
        sha256 = [f"{name}-{index} original" for index in range(len(pictures))]
        run.tell(name, Phase.OK, operation, **told, sha256=sha256)
    kinds: list[tuple[str, str | None]] = [("job.queued", None), ("job.running", None)]
    for index, picture in enumerate(pictures):
        image = f"{name}-{index}"
        run.snapshot.images.append(ImageRow(image, name, index, picture, attempt, 0))
        if picture == "succeeded":
            _files(run, name, image, attempt)
            kinds.append(("image.succeeded", image))
    kinds.append((f"job.{state}", None))
    run.snapshot.events.extend(
        EventRow(name, seq, kind, image) for seq, (kind, image) in enumerate(kinds, 1)
    )
    run.snapshot.jobs.append(
        JobRow(name, state, f"key-{name}", len(pictures), error, len(kinds), has_deadline)
    )


def _files(run: Run, job: str, image: str, attempt: int) -> None:
    for variant in ("original", "thumbnail"):
        key = f"{job}/{image}/{attempt}/{variant}.png"
        sha256 = f"{image} {variant}"
        run.snapshot.variants.append(VariantRow(image, variant, 10, sha256, key))
        run.snapshot.files[key] = File(10, sha256)


def _cancel(run: Run) -> None:
    run.tell("gone", Phase.INVOKE, Operation.CANCEL, job_id="gone")
    ended = {"job_id": "gone", "state": "cancelled", "succeeded": ["gone-0"]}
    run.tell("gone", Phase.OK, Operation.CANCEL, **ended)


def _watch(run: Run) -> None:
    """Two connections, the second one resuming."""
    kinds = [event.type for event in run.snapshot.events if event.job_id == "good"]
    for connection, after, until in (("one", 0, 2), ("two", 2, len(kinds))):
        told = {"connection": connection, "job_id": "good"}
        run.tell("good", Phase.INVOKE, Operation.WATCH, **told, after=after)
        for seq in range(after + 1, until + 1):
            told_event = {**told, "seq": seq, "type": kinds[seq - 1]}
            run.tell("good", Phase.OK, Operation.EVENT, **told_event)


def _claims(run: Run) -> None:
    for worker, attempt, crashes in (("a", 1, 0), ("b", 2, 1)):
        held = {"good-0": [worker, attempt, crashes]}
        run.tell("sampler", Phase.OK, Operation.CLAIMS, held=held)
