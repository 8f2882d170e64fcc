"""Jobs fail, expire and are cancelled for a reason that somebody gave."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.chaos.evidence import Evidence, Violation
from loadtests.chaos.history import Operation, Phase

MAX_CRASHES = 3
LOST = "was lost with its worker"
_NO_ROOM = ("is full", "is gone")  # of serve.storage.folder


def failures_are_explained(evidence: Evidence) -> Iterator[Violation]:
    """I5: a job fails only by three crashes of one picture, or by a storage that was full."""
    filled = any(fault.value["name"] == "fill-storage" for fault in evidence.faults)
    for job in evidence.snapshot.jobs:
        if job.state != "failed":
            continue
        crashes = max((i.crashes for i in evidence.images.get(job.id, ())), default=0)
        reason = job.error or ""
        crashed = LOST in reason and crashes >= MAX_CRASHES
        if not crashed and not (filled and storage_was_full(reason)):
            yield Violation("I5", job.id, f"failed after {crashes} crashes: {reason[:300]}")


def storage_was_full(reason: str) -> bool:
    return any(words in reason for words in _NO_ROOM)


def ends_were_asked_for(evidence: Evidence) -> Iterator[Violation]:
    """I1: only a deadline lets a job expire, and only a client cancels one."""
    asked = {r.value["job_id"] for r in evidence.records(Operation.CANCEL, Phase.INVOKE)}
    for job in evidence.snapshot.jobs:
        if job.state == "expired" and not job.has_deadline:
            yield Violation("I1", job.id, "expired without a deadline")
        if job.state == "cancelled" and job.id not in asked:
            yield Violation("I1", job.id, "was cancelled, and nobody asked for it")


def refused_generations_did_end(evidence: Evidence) -> Iterator[Violation]:
    """I6: who waited for pictures was told how their job ended."""
    states = {"generation_failed": "failed", "deadline_exceeded": "expired"}
    for record in evidence.records(Operation.GENERATE, Phase.FAIL):
        key, code = record.value["key"], record.value["code"]
        ended = {job.state for job in evidence.jobs_by_key.get(key, ())}
        if code == "wait_timeout":  # it was told to look at the job
            continue
        if ended != {states.get(str(code))}:
            yield Violation("I6", key, f"was answered {code}, and ended {sorted(ended)}")
