"""What a report says of a run."""

from __future__ import annotations

import pytest

from loadtests.chaos.evidence import Evidence
from loadtests.chaos.history import Operation, Phase, Record
from loadtests.chaos.measures import Spread, measure
from loadtests.chaos.snapshot import File
from tests.loadtests.chaos.clean_run import Run, clean_run


def at(run: Run, seconds: float, phase: Phase, operation: Operation, **value: object) -> None:
    run.history.append(Record("x", phase, operation, value, at=seconds))


def test_what_happened_is_counted() -> None:
    run = clean_run()
    killed = {"name": "kill-proxy", "number": 1, "killed": 5, "role": "proxy"}
    run.tell("faults", Phase.INVOKE, Operation.FAULT, **killed)
    nobody = {"name": "kill-proxy", "number": 2, "killed": None, "role": "proxy"}
    run.tell("faults", Phase.INVOKE, Operation.FAULT, **nobody)
    run.tell("x", Phase.INVOKE, Operation.SUBMIT, key="lost", body={})
    run.tell("x", Phase.INFO, Operation.SUBMIT, key="lost", body={}, reason="503")
    run.snapshot.files["good/good-0/1/original.png"] = File(1, "orphan")
    measures = measure(Evidence(run.history, run.snapshot))
    assert (measures.jobs, measures.pictures) == (6, 4)
    assert measures.states == {"succeeded": 2, "failed": 2, "expired": 1, "cancelled": 1}
    assert measures.failures == {
        "lost with its worker three times": 1,
        "the storage was full": 1,
    }
    assert measures.kills == {"proxy": 1}
    assert (measures.orphans, measures.unanswered, measures.retries) == (1, 1, 1)
    assert measures.bound == pytest.approx(0.5)


def test_reexecution_is_from_the_kill_to_the_next_claim_of_what_it_held() -> None:
    run = Run()
    at(run, 1.0, Phase.OK, Operation.BEAT, worker="a", wall=999.0)
    at(run, 1.0, Phase.OK, Operation.BEAT, worker="b", wall=998.5)
    at(run, 1.0, Phase.OK, Operation.CLAIMS, held={"mine": ["a", 1, 0], "other": ["b", 1, 0]})
    told = {"name": "kill-diffusion", "number": 0, "killed": 1, "role": "diffusion"}
    run.history.append(Record("faults", Phase.INVOKE, Operation.FAULT, told, at=2.0, wall=1000.0))
    at(run, 5.0, Phase.OK, Operation.BEAT, worker="b", wall=1003.0)
    at(run, 9.0, Phase.OK, Operation.CLAIMS, held={"mine": ["a", 1, 0], "other": ["b", 2, 0]})
    at(run, 20.0, Phase.OK, Operation.CLAIMS, held={"mine": ["c", 2, 1]})
    measures = measure(Evidence(run.history, run.snapshot))
    assert measures.reexecution_s == Spread(1, 18.0, 18.0, 18.0)


def test_a_cancel_is_timed_from_its_first_try() -> None:
    run = Run()
    at(run, 1.0, Phase.INVOKE, Operation.CANCEL, job_id="j")
    at(run, 2.0, Phase.INFO, Operation.CANCEL, job_id="j", reason="503")
    at(run, 3.0, Phase.INVOKE, Operation.CANCEL, job_id="j")
    at(run, 3.5, Phase.OK, Operation.CANCEL, job_id="j", state="cancelled", succeeded=[])
    told = {"connection": "c", "job_id": "j", "seq": 3, "type": "job.cancelled"}
    at(run, 4.0, Phase.OK, Operation.EVENT, **told)
    measures = measure(Evidence(run.history, run.snapshot))
    assert measures.cancel_s == Spread(1, 2.5, 2.5, 2.5)
    assert measures.cancel_told_s == Spread(1, 3.0, 3.0, 3.0)
