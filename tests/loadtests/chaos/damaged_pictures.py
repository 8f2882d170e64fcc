"""Broken promises about pictures: I2 to I5."""

from __future__ import annotations

from dataclasses import replace

from loadtests.chaos.history import Operation, Phase
from loadtests.chaos.snapshot import EventRow, File
from tests.loadtests.chaos.clean_run import Run
from tests.loadtests.chaos.damage import damage


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


@damage("I3", "was deleted and has the files ['original', 'thumbnail']")
def a_deleted_picture_keeps_its_files(run: Run) -> None:
    run.amend_row(run.snapshot.images, "good-0", deleted=True)


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


@damage("I5", "was charged twice with the lease of b")
def a_lease_is_lost_twice(run: Run) -> None:
    for attempt, crashes in ((3, 2), (4, 3)):
        held = {"good-0": ["b", attempt, crashes]}
        run.tell("sampler", Phase.OK, Operation.CLAIMS, held=held)


@damage("I5", "failed after 2 crashes")
def a_job_fails_after_two_crashes(run: Run) -> None:
    run.amend_row(run.snapshot.images, "crash-0", crashes=2)


@damage("I5", "failed after 0 crashes: The picture could not be delivered")
def a_job_fails_for_no_fault(run: Run) -> None:
    run.amend_row(run.snapshot.jobs, "full", error="The picture could not be delivered: TypeError.")


@damage("I5", "The disk is full")
def a_full_storage_that_nobody_filled(run: Run) -> None:
    del run.history[run.find("faults", Phase.INVOKE, Operation.FAULT)]
