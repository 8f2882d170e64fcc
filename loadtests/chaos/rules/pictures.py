"""A picture that succeeded is there, whole, by its last attempt; I2 to I5."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.chaos.evidence import Evidence, Violation
from loadtests.chaos.history import Operation, Phase
from loadtests.chaos.snapshot import VariantRow

_VARIANTS = ["original", "thumbnail"]
_ATTEMPT_SEGMENT = 2  # of a storage key: job / image / attempt / file


def pictures_are_one_each(evidence: Evidence) -> Iterator[Violation]:
    """I2: at most one picture of a job and index."""
    for job_id, images in evidence.images.items():
        indices = [image.index for image in images]
        if indices != list(range(len(images))):
            yield Violation("I2", job_id, f"has the pictures {indices}")


def files_are_whole(evidence: Evidence) -> Iterator[Violation]:
    """I3: every file of a picture that succeeded is there, with its size and hash.

    A picture that its client deleted has none.
    """
    for image in evidence.snapshot.images:
        variants = evidence.variants.get(image.id, [])
        names = [variant.name for variant in variants]
        if image.deleted and names:
            yield Violation("I3", image.id, f"was deleted and has the files {names}")
        if image.state == "succeeded" and not image.deleted and names != _VARIANTS:
            yield Violation("I3", image.id, f"succeeded with the files {names}")
        if image.state != "succeeded" and names:
            yield Violation("I4", image.id, f"is {image.state} and has the files {names}")
        for variant in variants:
            yield from _check_file(evidence, variant)


def _check_file(evidence: Evidence, variant: VariantRow) -> Iterator[Violation]:
    file = evidence.snapshot.files.get(variant.storage_key)
    if file is None:
        yield Violation("I3", variant.image_id, f"{variant.storage_key} is missing")
    elif (file.size, file.sha256) != (variant.size, variant.sha256):
        yield Violation("I3", variant.image_id, f"{variant.storage_key} is not what was committed")


def clients_got_those_files(evidence: Evidence) -> Iterator[Violation]:
    """I3: what a client downloaded is what the database says."""
    hashes = {(v.image_id, v.name): v.sha256 for v in evidence.snapshot.variants}
    deleted = {image.id for image in evidence.snapshot.images if image.deleted}
    for record in evidence.records(Operation.FETCH, Phase.OK, Phase.FAIL):
        image, variant = record.value["image_id"], record.value["variant"]
        if record.phase is Phase.FAIL:
            yield Violation("I3", image, f"{variant} was answered {record.value['status']}")
        elif image not in deleted and hashes.get((image, variant)) != record.value["sha256"]:
            yield Violation("I3", image, f"{variant} was downloaded with another hash")
    for record in evidence.records(Operation.GENERATE, Phase.OK):
        for job in evidence.jobs_by_key.get(record.value["key"], ()):
            images = evidence.images.get(job.id, ())
            kept = [hashes.get((image.id, "original")) for image in images]
            if not deleted & {image.id for image in images} and record.value["sha256"] != kept:
                yield Violation("I3", job.id, "was answered with other pictures than are kept")


def the_last_attempt_commits(evidence: Evidence) -> Iterator[Violation]:
    """I4: the files are of the attempt that is current."""
    attempts = {image.id: image.attempt for image in evidence.snapshot.images}
    for variant in evidence.snapshot.variants:
        attempt = variant.storage_key.split("/")[_ATTEMPT_SEGMENT]
        if attempt != str(attempts.get(variant.image_id)):
            detail = f"{variant.storage_key} is not of attempt {attempts.get(variant.image_id)}"
            yield Violation("I4", variant.image_id, detail)


def a_lease_is_lost_once(evidence: Evidence) -> Iterator[Violation]:
    """I5: a worker that lost its lease is charged to a picture once, and has claimed nothing since.

    The sampler may miss an attempt; only what it saw follow each other is judged.
    """
    before: dict[str, tuple[int, str, int]] = {}
    charged: set[tuple[str, str]] = set()
    for record in evidence.records(Operation.CLAIMS):
        for image, (worker, attempt, crashes) in record.value["held"].items():
            last = before.get(image)
            before[image] = (attempt, worker, crashes)
            if last is None or (attempt, crashes) != (last[0] + 1, last[2] + 1):
                continue
            if (image, last[1]) in charged:
                yield Violation("I5", image, f"was charged twice with the lease of {last[1]}")
            charged.add((image, last[1]))


def attempts_increase(evidence: Evidence) -> Iterator[Violation]:
    """I5: an attempt has one holder, and a later one a higher number."""
    last: dict[str, tuple[int, str]] = {}
    for record in evidence.records(Operation.CLAIMS):
        for image, (worker, attempt, _) in record.value["held"].items():
            before = last.get(image)
            if before is not None and attempt < before[0]:
                yield Violation("I5", image, f"went from attempt {before[0]} to {attempt}")
            if before is not None and attempt == before[0] and worker != before[1]:
                yield Violation("I5", image, f"attempt {attempt} was held by two workers")
            last[image] = (attempt, worker)
    for row in evidence.snapshot.images:
        if row.attempt < last.get(row.id, (0, ""))[0]:
            yield Violation("I5", row.id, f"ended with attempt {row.attempt}, seen higher")
