"""What a run went through and how long its recoveries took."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from loadtests.chaos.evidence import Evidence
from loadtests.chaos.history import Operation, Phase, Record
from loadtests.chaos.rules.failures import LOST, storage_was_full

_HEARTBEAT_S = 4.0  # every 3 s, and a little


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some seconds."""

    count: int
    median: float
    p95: float
    longest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread | None:
        values = sorted(seconds)
        if not values:
            return None
        cuts = quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
        return cls(len(values), cuts[9], cuts[18], values[-1])


@dataclass(frozen=True, slots=True)
class Measures:
    """All of one run."""

    jobs: int
    pictures: int
    """Those that succeeded."""
    states: dict[str, int]
    """Jobs by how they ended."""
    failures: dict[str, int]
    """Failed jobs by reason."""
    kills: dict[str, int]
    """By role."""
    faults: dict[str, int]
    """By name, kills included."""
    commits_dropped: int
    repeated_pictures: int
    """Those that took more than one attempt."""
    crashes: int
    """Charged to pictures."""
    retries: int
    """Of clients, whose answers were lost or unavailable."""
    unanswered: int
    """Requests to submit that never got a definite answer."""
    reconnects: int
    orphans: int
    """Files that no row names: left by attempts that lost their claim."""
    reexecution_s: Spread | None
    """From the kill of a diffusion replica to the next claim of a picture that it held."""
    cancel_s: Spread | None
    """From a client's first request to cancel to its acknowledgement, faults included."""
    cancel_told_s: Spread | None
    """From that first request to ``job.cancelled`` at the job's follower."""
    submit_s: Spread | None
    """From a client's first request to its acceptance, faults included."""

    @property
    def bound(self) -> float:
        """Of the share of jobs that are lost, with 95 % confidence, where none was: 3 / n."""
        return 3 / self.jobs if self.jobs else 1.0


def measure(evidence: Evidence) -> Measures:
    snapshot = evidence.snapshot
    named = {variant.storage_key for variant in snapshot.variants}
    healed = list(evidence.records(Operation.FAULT, Phase.OK))
    return Measures(
        jobs=len(snapshot.jobs),
        pictures=sum(image.state == "succeeded" for image in snapshot.images),
        states=dict(Counter(job.state for job in snapshot.jobs)),
        failures=dict(
            Counter(_reason(job.error) for job in snapshot.jobs if job.state == "failed")
        ),
        kills=dict(Counter(f.value["role"] for f in evidence.faults if f.value.get("killed"))),
        faults=dict(Counter(f.value["name"] for f in evidence.faults)),
        commits_dropped=sum(record.value.get("dropped", 0) for record in healed),
        repeated_pictures=sum(image.attempt > 1 for image in snapshot.images),
        crashes=sum(image.crashes for image in snapshot.images),
        retries=sum(
            record.phase is Phase.INFO
            for record in evidence.history
            if record.operation is not Operation.WATCH
        ),
        unanswered=_unanswered(evidence),
        reconnects=sum(1 for _ in evidence.records(Operation.WATCH, Phase.INFO)),
        orphans=len(set(snapshot.files) - named),
        reexecution_s=Spread.of(reexecutions(evidence)),
        cancel_s=Spread.of(_answered_after(evidence, Operation.CANCEL, "job_id")),
        cancel_told_s=Spread.of(_cancels_told(evidence)),
        submit_s=Spread.of(_answered_after(evidence, Operation.SUBMIT, "key")),
    )


def reexecutions(evidence: Evidence) -> list[float]:
    """For every picture that a killed diffusion replica held: seconds until its next claim."""
    samples = list(evidence.records(Operation.CLAIMS))
    took = []
    for kill in evidence.faults:
        if kill.value["name"] != "kill-diffusion":
            continue
        worker = _killed_worker(evidence, kill)
        before: dict[str, Any] = next(
            (s.value["held"] for s in reversed(samples) if s.at <= kill.at), {}
        )
        for image, (holder, attempt, _) in before.items():
            again = _next_claim(samples, image, attempt) if holder == worker else None
            if again is not None:
                took.append(again.at - kill.at)
    return took


def _killed_worker(evidence: Evidence, kill: Record) -> str | None:
    """Whose last heartbeat was the last before the kill; workers do not tell their processes."""
    last: dict[str, float] = {}
    for beat in evidence.records(Operation.BEAT):
        worker, wall = beat.value["worker"], beat.value["wall"]
        last[worker] = max(wall, last.get(worker, wall))
    dead = {worker: wall for worker, wall in last.items() if 0 <= kill.wall - wall <= _HEARTBEAT_S}
    return max(dead, key=lambda worker: dead[worker], default=None)


def _next_claim(samples: list[Record], image: str, attempt: int) -> Record | None:
    for sample in samples:
        holder = sample.value["held"].get(image)
        if holder is not None and holder[1] > attempt:
            return sample
    return None


def _answered_after(evidence: Evidence, operation: Operation, subject: str) -> list[float]:
    """From the first try to the ``ok``, one for each subject."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    for record in evidence.records(operation):
        name = record.value[subject]
        if record.phase is Phase.INVOKE:
            began.setdefault(name, record.at)
        elif record.phase is Phase.OK:
            took.setdefault(name, record.at - began[name])
    return list(took.values())


def _cancels_told(evidence: Evidence) -> list[float]:
    began: dict[str, float] = {}
    for record in evidence.records(Operation.CANCEL, Phase.INVOKE):
        began.setdefault(record.value["job_id"], record.at)
    return [
        record.at - began[record.value["job_id"]]
        for record in evidence.records(Operation.EVENT)
        if record.value["type"] == "job.cancelled" and record.value["job_id"] in began
    ]


def _unanswered(evidence: Evidence) -> int:
    asked: set[str] = set()
    answered: set[str] = set()
    for operation in (Operation.SUBMIT, Operation.GENERATE):
        for record in evidence.records(operation):
            key = record.value["key"]
            (answered if record.phase in (Phase.OK, Phase.FAIL) else asked).add(key)
    return len(asked - answered)


def _reason(error: str | None) -> str:
    if error and LOST in error:
        return "lost with its worker three times"
    if error and storage_was_full(error):
        return "the storage was full"
    return re.sub(r"[0-9a-f-]{36}|\d+", "…", error or "no reason")[:120]
