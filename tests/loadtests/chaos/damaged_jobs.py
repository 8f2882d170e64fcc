"""Broken promises about jobs: I1, I6, I9, I10."""

from __future__ import annotations

from loadtests.chaos.history import Operation, Phase
from tests.loadtests.chaos.clean_run import Run
from tests.loadtests.chaos.damage import damage


@damage("I1", "was accepted, and has no row")
def an_accepted_job_is_lost(run: Run) -> None:
    run.amend("good", Phase.OK, Operation.SUBMIT, job_id="never stored")


@damage("I1", "was answered, and has no row")
def an_answered_generation_is_lost(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "sync", key="another")


@damage("I1", "is still running")
def a_job_never_ends(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "good", state="running")


@damage("I1", "is succeeded with pictures cancelled")
def a_job_succeeds_without_a_picture(run: Run) -> None:
    run.amend_row(run.snapshot.images, "good-1", state="cancelled")


@damage("I1", "has 1 pictures of 2")
def a_picture_row_is_lost(run: Run) -> None:
    run.snapshot.images.remove(next(i for i in run.snapshot.images if i.id == "good-1"))


@damage("I1", "nobody asked for it")
def a_job_comes_from_nowhere(run: Run) -> None:
    del run.history[run.find("late", Phase.INVOKE, Operation.SUBMIT)]
    del run.history[run.find("late", Phase.OK, Operation.SUBMIT)]


@damage("I1", "expired without a deadline")
def a_job_expires_without_a_deadline(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "late", has_deadline=False)


@damage("I1", "was cancelled, and nobody asked for it")
def a_job_is_cancelled_by_nobody(run: Run) -> None:
    del run.history[run.find("gone", Phase.INVOKE, Operation.CANCEL)]
    del run.history[run.find("gone", Phase.OK, Operation.CANCEL)]


@damage("I6", "saw it succeeded; now it is failed")
def an_end_changes(run: Run) -> None:
    told = {"job_id": "full", "state": "succeeded", "succeeded": []}
    run.tell("full", Phase.OK, Operation.LOOK, **told)


@damage("I6", "was answered job_cancelled, and ended ['succeeded']")
def a_generation_is_told_another_end(run: Run) -> None:
    told = {"key": "key-sync", "body": {}, "status": 409, "code": "job_cancelled"}
    run.tell("sync", Phase.FAIL, Operation.GENERATE, **told)


@damage("I9", "became the jobs good, other")
def a_key_becomes_two_jobs(run: Run) -> None:
    told = {"key": "key-good", "body": {"prompt": "good"}, "state": "queued"}
    run.tell("good", Phase.OK, Operation.SUBMIT, **told, job_id="other")


@damage("I9", "has 2 rows")
def a_key_has_two_rows(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "late", key="key-good")


@damage("I9", "was taken for two different bodies")
def another_body_is_taken(run: Run) -> None:
    told = {"key": "key-good", "body": {"prompt": "else"}, "state": "queued"}
    run.tell("good", Phase.OK, Operation.SUBMIT, **told, job_id="good")


@damage("I9", "was refused: 422 idempotency_conflict")
def the_same_body_is_refused(run: Run) -> None:
    told = {"key": "key-good", "body": {"prompt": "good"}}
    run.tell("good", Phase.FAIL, Operation.SUBMIT, **told, status=422, code="idempotency_conflict")


@damage("I10", "1 pictures came after its cancel")
def a_picture_comes_after_a_cancel(run: Run) -> None:
    run.amend("gone", Phase.OK, Operation.CANCEL, succeeded=[])


@damage("I10", "a cancel was answered running")
def a_cancel_does_not_cancel(run: Run) -> None:
    run.amend("gone", Phase.OK, Operation.CANCEL, state="running")


@damage("I10", "cancel: 404 job_not_found")
def a_cancel_finds_no_job(run: Run) -> None:
    told = {"job_id": "gone", "status": 404, "code": "job_not_found"}
    run.tell("gone", Phase.FAIL, Operation.CANCEL, **told)
