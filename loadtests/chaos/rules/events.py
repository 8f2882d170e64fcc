"""What happened is told in order, each thing once; I7, I8."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from loadtests.chaos.evidence import TERMINAL, Evidence, Violation
from loadtests.chaos.history import Operation, Phase

_ENDS = frozenset(f"job.{state}" for state in TERMINAL)


def events_are_numbered(evidence: Evidence) -> Iterator[Violation]:
    """I7: a job's events are numbered 1..n without gaps, the terminal one, once, last."""
    for job in evidence.snapshot.jobs:
        events = evidence.events.get(job.id, [])
        numbers = [event.seq for event in events]
        if numbers != list(range(1, job.last_seq + 1)):
            yield Violation("I7", job.id, f"has the numbers {numbers}; the last is {job.last_seq}")
        kinds = [event.type for event in events]
        if kinds[:1] != ["job.queued"] or kinds.count("job.queued") != 1:
            yield Violation("I7", job.id, f"begins with {kinds[:1]}")
        ends = [kind for kind in kinds if kind in _ENDS]
        due = [f"job.{job.state}"] if job.state in TERMINAL else []
        if ends != due:
            yield Violation("I7", job.id, f"is {job.state}, and told {ends}")
        elif ends and kinds[-1] not in _ENDS:
            yield Violation("I7", job.id, f"{kinds[-1]} came after {ends[0]}")


def pictures_are_told_once(evidence: Evidence) -> Iterator[Violation]:
    """I2: each picture is told of once, and none that is not there."""
    for job in evidence.snapshot.jobs:
        told: dict[str | None, int] = defaultdict(int)
        for event in evidence.events.get(job.id, ()):
            if event.type == "image.succeeded":
                told[event.image_id] += 1
        there = {i.id for i in evidence.images.get(job.id, ()) if i.state == "succeeded"}
        for image, times in told.items():
            if times > 1:
                yield Violation("I2", str(image), f"succeeded {times} times")
            if image not in there:
                yield Violation("I2", str(image), "was told of, and is not there")
        for image in there - set(told):
            yield Violation("I2", image, "is there, and was never told of")


def connections_are_in_order(evidence: Evidence) -> Iterator[Violation]:
    """I8: a connection brings the numbers after the one it asked for, as the database has them."""
    due: dict[str, int] = {}
    stored = {(e.job_id, e.seq): e.type for e in evidence.snapshot.events}
    for record in evidence.history:
        if record.operation is Operation.WATCH and record.phase is Phase.INVOKE:
            due[record.value["connection"]] = record.value["after"] + 1
        if record.operation is not Operation.EVENT:
            continue
        connection, seq = record.value["connection"], record.value["seq"]
        if seq != due[connection]:
            detail = f"{record.process} got number {seq} where {due[connection]} was due"
            yield Violation("I8", record.value["job_id"], detail)
        due[connection] = seq + 1
        kept = stored.get((record.value["job_id"], seq))
        if kept != record.value["type"]:
            detail = f"number {seq} came as {record.value['type']} and is kept as {kept}"
            yield Violation("I8", record.value["job_id"], detail)


def followers_see_each_event_once(evidence: Evidence) -> Iterator[Violation]:
    """I8: over all its connections a client sees every event of its job once, to the last."""
    seen: dict[tuple[str, str], list[int]] = {}
    for record in evidence.records(Operation.WATCH, Phase.INVOKE):
        seen.setdefault((record.process, record.value["job_id"]), [])
    for record in evidence.records(Operation.EVENT):
        seen.setdefault((record.process, record.value["job_id"]), []).append(record.value["seq"])
    for (process, job_id), numbers in seen.items():
        job = evidence.jobs.get(job_id)
        if job is not None and sorted(numbers) != list(range(1, job.last_seq + 1)):
            detail = f"{process} saw {sorted(numbers)} of 1..{job.last_seq}"
            yield Violation("I8", job_id, detail)
