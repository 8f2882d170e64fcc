"""The checker finds each broken promise; one that cannot fail would be worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtests.chaos.checker import RULES
from loadtests.chaos.history import Operation, Phase
from loadtests.chaos.snapshot import EventRow, File
from tests.loadtests.chaos.clean_run import Run, clean_run

DAMAGES: list[tuple[str, str, Callable[[Run], None]]] = []


def damage(invariant: str, says: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Breaks ``invariant`` in a clean run; the violation must say ``says``."""

    def keep(function: Callable[[Run], None]) -> Callable[[Run], None]:
        DAMAGES.append((invariant, says, function))
        return function

    return keep


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


@damage("I2", "has the pictures [0, 0]")
def two_pictures_of_one_index(run: Run) -> None:
    run.amend_row(run.snapshot.images, "good-1", index=0)


@damage("I2", "succeeded 2 times")
def a_picture_succeeds_twice(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "sync", last_seq=5)
    run.snapshot.events[-1] = EventRow("sync", 4, "image.succeeded", "sync-0")
    run.snapshot.events.append(EventRow("sync", 5, "job.succeeded", None))


@damage("I2", "was never told of")
def a_picture_is_never_told_of(run: Run) -> None:
    index = run.snapshot.events.index(EventRow("sync", 3, "image.succeeded", "sync-0"))
    run.snapshot.events[index] = EventRow("sync", 3, "job.running", None)


@damage("I2", "is not there")
def a_told_picture_is_not_there(run: Run) -> None:
    index = run.snapshot.events.index(EventRow("sync", 3, "image.succeeded", "sync-0"))
    run.snapshot.events[index] = EventRow("sync", 3, "image.succeeded", "late-0")


@damage("I3", "is missing")
def a_file_is_missing(run: Run) -> None:
    del run.snapshot.files["good/good-0/2/original.png"]


@damage("I3", "is not what was committed")
def a_file_is_cut_short(run: Run) -> None:
    run.snapshot.files["good/good-0/2/original.png"] = File(9, "good-0 original")


@damage("I3", "is not what was committed")
def a_file_holds_other_bytes(run: Run) -> None:
    run.snapshot.files["good/good-0/2/original.png"] = File(10, "rubbish")


@damage("I3", "succeeded with the files ['original']")
def a_picture_lacks_its_thumbnail(run: Run) -> None:
    variants = run.snapshot.variants
    lost = next(v for v in variants if (v.image_id, v.name) == ("good-0", "thumbnail"))
    variants.remove(lost)


@damage("I3", "was downloaded with another hash")
def a_download_differs(run: Run) -> None:
    run.amend("good", Phase.OK, Operation.FETCH, sha256="rubbish")


@damage("I3", "was answered 404")
def a_download_is_refused(run: Run) -> None:
    told = {"image_id": "good-1", "variant": "original", "status": 404, "code": "x"}
    run.tell("good", Phase.FAIL, Operation.FETCH, **told)


@damage("I3", "was answered with other pictures")
def a_generation_brings_other_pictures(run: Run) -> None:
    run.amend("sync", Phase.OK, Operation.GENERATE, sha256=["rubbish"])


@damage("I4", "is cancelled and has the files")
def a_cancelled_picture_has_files(run: Run) -> None:
    run.amend_row(run.snapshot.images, "gone-0", state="cancelled")


@damage("I4", "is not of attempt 2")
def an_old_attempt_committed(run: Run) -> None:
    variants = run.snapshot.variants
    index = next(i for i, v in enumerate(variants) if v.image_id == "good-0")
    key = "good/good-0/1/original.png"
    variants[index] = replace(variants[index], storage_key=key)
    run.snapshot.files[key] = File(10, "good-0 original")


@damage("I5", "went from attempt 2 to 1")
def an_attempt_goes_back(run: Run) -> None:
    run.tell("sampler", Phase.OK, Operation.CLAIMS, held={"good-0": ["b", 1, 1]})


@damage("I5", "was held by two workers")
def an_attempt_has_two_holders(run: Run) -> None:
    run.tell("sampler", Phase.OK, Operation.CLAIMS, held={"good-0": ["c", 2, 1]})


@damage("I5", "ended with attempt 2, seen higher")
def a_later_attempt_is_forgotten(run: Run) -> None:
    run.tell("sampler", Phase.OK, Operation.CLAIMS, held={"good-0": ["c", 3, 1]})


@damage("I5", "failed after 2 crashes")
def a_job_fails_after_two_crashes(run: Run) -> None:
    run.amend_row(run.snapshot.images, "crash-0", crashes=2)


@damage("I5", "failed after 0 crashes: The picture could not be delivered")
def a_job_fails_for_no_fault(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "full", error="The picture could not be delivered: TypeError.")


@damage("I5", "writable and has room")
def a_full_storage_that_nobody_filled(run: Run) -> None:
    del run.history[run.find("faults", Phase.INVOKE, Operation.FAULT)]


@damage("I6", "saw it succeeded; now it is failed")
def an_end_changes(run: Run) -> None:
    told = {"job_id": "full", "state": "succeeded", "succeeded": []}
    run.tell("full", Phase.OK, Operation.LOOK, **told)


@damage("I6", "was answered job_cancelled, and ended ['succeeded']")
def a_generation_is_told_another_end(run: Run) -> None:
    told = {"key": "key-sync", "body": {}, "status": 409, "code": "job_cancelled"}
    run.tell("sync", Phase.FAIL, Operation.GENERATE, **told)


@damage("I7", "has the numbers [1, 2, 4, 5]; the last is 5")
def a_number_is_missing(run: Run) -> None:
    run.snapshot.events.remove(EventRow("good", 3, "image.succeeded", "good-0"))


@damage("I7", "and told []")
def a_terminal_event_is_missing(run: Run) -> None:
    run.snapshot.events.remove(EventRow("late", 3, "job.expired", None))


@damage("I7", "and told ['job.expired', 'job.expired']")
def a_terminal_event_is_told_twice(run: Run) -> None:
    run.snapshot.events.append(EventRow("late", 4, "job.expired", None))


@damage("I7", "image.succeeded came after job.cancelled")
def something_follows_the_end(run: Run) -> None:
    run.snapshot.events.append(EventRow("gone", 5, "image.succeeded", "gone-1"))


@damage("I7", "begins with ['job.running']")
def a_job_begins_without_being_queued(run: Run) -> None:
    run.snapshot.events.remove(EventRow("late", 1, "job.queued", None))


@damage("I8", "got number 4 where 3 was due")
def a_connection_skips_an_event(run: Run) -> None:
    del run.history[_event(run, 3)]


@damage("I8", "got number 3 where 4 was due")
def a_connection_repeats_an_event(run: Run) -> None:
    run.history.insert(_event(run, 3), run.history[_event(run, 3)])


@damage("I8", "saw [1, 2, 3, 4, 4, 5]")
def a_client_sees_an_event_on_two_connections(run: Run) -> None:
    told = {"connection": "three", "job_id": "good"}
    run.tell("good", Phase.INVOKE, Operation.WATCH, **told, after=3)
    run.tell("good", Phase.OK, Operation.EVENT, **told, seq=4, type="image.succeeded")


@damage("I8", "came as job.failed and is kept as job.succeeded")
def an_event_is_told_differently(run: Run) -> None:
    index = _event(run, 5)
    record = run.history[index]
    run.history[index] = replace(record, value={**record.value, "type": "job.failed"})


@damage("I8", "saw [1, 2, 3, 4] of 1..5")
def a_follower_never_sees_the_end(run: Run) -> None:
    del run.history[_event(run, 5)]


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


def _event(run: Run, seq: int) -> int:
    return next(
        index
        for index, record in enumerate(run.history)
        if record.operation is Operation.EVENT and record.value["seq"] == seq
    )


def test_a_clean_run_has_no_violation() -> None:
    assert clean_run().violations() == []


@pytest.mark.parametrize(
    ("invariant", "says", "break_it"), DAMAGES, ids=[one[2].__name__ for one in DAMAGES]
)
def test_each_violation_is_found(
    invariant: str, says: str, break_it: Callable[[Run], None]
) -> None:
    run = clean_run()
    break_it(run)
    found = [v for v in run.violations() if v.invariant == invariant and says in v.detail]
    assert found, run.violations()


def test_a_conflicting_body_may_be_refused() -> None:
    run = clean_run()
    told = {"key": "key-good", "body": {"prompt": "else"}}
    run.tell("good", Phase.FAIL, Operation.SUBMIT, **told, status=422, code="idempotency_conflict")
    assert run.violations() == []


def test_every_rule_is_broken_by_some_damage() -> None:
    """So no rule stands there that nothing can break."""
    from loadtests.chaos.evidence import Evidence

    silent = set(RULES)
    for _, _, break_it in DAMAGES:
        run = clean_run()
        break_it(run)
        evidence = Evidence(run.history, run.snapshot)
        silent -= {rule for rule in silent if list(rule(evidence))}
    assert not silent
