"""Accepted jobs end, once; I1, I6, I9, I10."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from loadtests.chaos.evidence import TERMINAL, Evidence, Violation
from loadtests.chaos.history import Operation, Phase


def accepted_jobs_end(evidence: Evidence) -> Iterator[Violation]:
    """I1: whatever a client heard accepted is there, and every job has ended."""
    for record in evidence.records(Operation.SUBMIT, Phase.OK):
        if record.value["job_id"] not in evidence.jobs:
            yield Violation("I1", record.value["job_id"], "was accepted, and has no row")
    for record in evidence.records(Operation.GENERATE, Phase.OK):
        if record.value["key"] not in evidence.jobs_by_key:
            yield Violation("I1", record.value["key"], "was answered, and has no row")
    for job in evidence.snapshot.jobs:
        if job.state not in TERMINAL:
            yield Violation("I1", job.id, f"is still {job.state} after all faults were healed")


def jobs_and_pictures_agree(evidence: Evidence) -> Iterator[Violation]:
    """I1: the state of a job that has ended is that of its pictures."""
    for job in evidence.snapshot.jobs:
        states = [image.state for image in evidence.images.get(job.id, ())]
        if len(states) != job.n:
            yield Violation("I1", job.id, f"has {len(states)} pictures of {job.n}")
        if job.state not in TERMINAL:
            continue
        allowed = {
            "succeeded": {"succeeded"},
            "failed": {"succeeded", "failed", "cancelled"},
        }.get(job.state, {"succeeded", job.state})
        if strange := sorted(set(states) - allowed):
            yield Violation("I1", job.id, f"is {job.state} with pictures {', '.join(strange)}")


def jobs_were_asked_for(evidence: Evidence) -> Iterator[Violation]:
    """I1: no job comes from nowhere."""
    asked = {
        record.value["key"]
        for operation in (Operation.SUBMIT, Operation.GENERATE)
        for record in evidence.records(operation, Phase.INVOKE)
    }
    for job in evidence.snapshot.jobs:
        if job.key not in asked:
            yield Violation("I1", job.id, f"nobody asked for it under the key {job.key}")


def terminal_states_stay(evidence: Evidence) -> Iterator[Violation]:
    """I6: an end that a client saw is the end that the database holds."""
    for operation in (Operation.LOOK, Operation.CANCEL, Operation.SUBMIT):
        for record in evidence.records(operation, Phase.OK):
            job, seen = evidence.jobs.get(record.value["job_id"]), record.value["state"]
            if job is not None and seen in TERMINAL and job.state != seen:
                detail = f"{record.process} saw it {seen}; now it is {job.state}"
                yield Violation("I6", job.id, detail)


def one_key_is_one_job(evidence: Evidence) -> Iterator[Violation]:
    """I9: the same key and body is the same job, another body is refused."""
    jobs: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, list[Any]] = defaultdict(list)
    for record in evidence.records(Operation.SUBMIT, Phase.OK):
        key, body = record.value["key"], record.value["body"]
        jobs[key].add(record.value["job_id"])
        if body not in bodies[key]:
            bodies[key].append(body)
    for key, ids in jobs.items():
        if len(ids) > 1:
            yield Violation("I9", key, f"became the jobs {', '.join(sorted(ids))}")
        if len(bodies[key]) > 1:
            yield Violation("I9", key, "was taken for two different bodies")
    for key, rows in evidence.jobs_by_key.items():
        if len(rows) > 1:
            yield Violation("I9", key, f"has {len(rows)} rows")


def refusals_are_due(evidence: Evidence) -> Iterator[Violation]:
    """I9: a valid request is refused only where its key was used for another."""
    first: dict[str, Any] = {}
    for record in evidence.records(Operation.SUBMIT, Phase.INVOKE, Phase.FAIL):
        key, body = record.value["key"], record.value["body"]
        first.setdefault(key, body)
        conflict = body != first[key] and record.value.get("code") == "idempotency_conflict"
        if record.phase is Phase.FAIL and not conflict:
            yield Violation("I9", key, f"was refused: {_refusal(record.value)}")


def cancelled_jobs_stay_empty(evidence: Evidence) -> Iterator[Violation]:
    """I10: after an acknowledged cancel no picture appears."""
    for record in evidence.records(Operation.CANCEL, Phase.OK):
        job_id = record.value["job_id"]
        now = {i.id for i in evidence.images.get(job_id, ()) if i.state == "succeeded"}
        if record.value["state"] != "cancelled":
            yield Violation("I10", job_id, f"a cancel was answered {record.value['state']}")
        if late := now - set(record.value["succeeded"]):
            yield Violation("I10", job_id, f"{len(late)} pictures came after its cancel")
    for record in evidence.records(Operation.CANCEL, Phase.FAIL):
        if record.value["code"] != "job_finished":
            yield Violation("I10", record.value["job_id"], f"cancel: {_refusal(record.value)}")


def _refusal(value: Any) -> str:
    return f"{value['status']} {value['code']}"
