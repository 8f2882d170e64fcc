"""What is tried again when a picture cannot be stored, and what the client is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.imaging.errors import InvalidPicture
from serve.moderation.errors import ContentPolicyViolation, ModerationUnavailable
from serve.observability.tracing import TraceContext
from serve.settings import WorkerSettings
from serve.storage import InvalidKey, Storage, open_storage
from serve.worker.delivery import (
    Delivery,
    PostprocessTask,
    StoredPicture,
    discard_picture,
    store_picture,
)
from serve.worker.errors import PictureFailed, PostprocessLost
from serve.worker.queue import Claim
from serve.worker.retry import pause
from tests.serve.conftest import ask
from tests.serve.storage.disk import fill, small_disk
from tests.serve.storage.s3 import S3, Fault, serve_s3

PICTURE = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
SETTINGS = WorkerSettings(store_tries=3, store_timeout_s=5)


class Postprocess:
    """The post-process step in this process; before it come the errors given."""

    def __init__(self, storage: Storage, *errors: Exception, hang_s: float = 0) -> None:
        self.storage, self.errors, self.hang_s = storage, list(errors), hang_s
        self.calls = 0

    async def store_picture(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        self.calls += 1
        await asyncio.sleep(self.hang_s)
        if self.errors:
            raise self.errors.pop(0)
        return await store_picture(self.storage, image, task, trace)

    async def discard(self, task: PostprocessTask) -> None:
        await discard_picture(self.storage, task)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.worker.delivery.pause", lambda attempt: 0.0)


@pytest.fixture
def claim() -> Claim:
    return Claim(uuid4(), uuid4(), uuid4(), uuid4(), index=0, attempt=1, request=ask())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with serve_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def names(folder: Path) -> list[str]:
    """Every file below, without its folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_a_lost_replica_is_made_up_for_by_another(tmp_path: Path, claim: Claim) -> None:
    step = Postprocess(open_storage(tmp_path.as_uri()), PostprocessLost("gone"))
    files = (await Delivery(step, SETTINGS).store(PICTURE, claim)).files
    assert step.calls == 2
    assert names(tmp_path) == sorted(Path(file.storage_key).name for file in files)


async def test_a_judge_that_is_away_is_asked_again(tmp_path: Path, claim: Claim) -> None:
    away = [ModerationUnavailable("later") for _ in range(SETTINGS.store_tries)]
    storage = open_storage(tmp_path.as_uri())
    step = Postprocess(storage, *away[1:])
    assert await Delivery(step, SETTINGS).store(PICTURE, claim)
    with pytest.raises(PictureFailed, match="later") as failed:
        await Delivery(Postprocess(storage, *away), SETTINGS).store(PICTURE, claim)
    assert failed.value.code == "moderation_unavailable"


async def test_a_refusal_is_final(tmp_path: Path, claim: Claim) -> None:
    step = Postprocess(open_storage(tmp_path.as_uri()), ContentPolicyViolation("not that"))
    with pytest.raises(PictureFailed, match=r"^not that$") as failed:
        await Delivery(step, SETTINGS).store(PICTURE, claim)
    assert failed.value.code == "content_policy_violation"
    assert (step.calls, names(tmp_path)) == (1, [])


async def test_replicas_are_waited_for_longer_than_storage(tmp_path: Path, claim: Claim) -> None:
    """Their restart is Serve's work, and on a busy machine it takes its time."""
    lost = [PostprocessLost("gone")] * 3 * SETTINGS.store_tries
    step = Postprocess(open_storage(tmp_path.as_uri()), *lost)
    assert await Delivery(step, SETTINGS).store(PICTURE, claim)


async def test_replicas_that_never_come_back_fail_the_picture(
    tmp_path: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.worker.delivery._REPLACED_WITHIN_S", 0.1)
    monkeypatch.setattr("serve.worker.delivery.pause", lambda attempt: 0.02)
    lost = [PostprocessLost("the replica was lost")] * 1000
    step = Postprocess(open_storage(tmp_path.as_uri()), *lost)
    with pytest.raises(PictureFailed, match="could not be stored: the replica was lost"):
        await Delivery(step, SETTINGS).store(PICTURE, claim)
    assert step.calls > SETTINGS.store_tries


async def test_a_bucket_is_tried_again_until_it_answers(s3: S3, claim: Claim) -> None:
    s3.fault = Fault(503, "SlowDown", times=11)  # one more than two files bear in a single try
    step = Postprocess(open_storage("s3://pictures"))
    files = (await Delivery(step, SETTINGS).store(PICTURE, claim)).files
    assert step.calls == 2
    assert set(s3.objects) == {f"pictures/{file.storage_key}" for file in files}


async def test_a_bucket_that_refuses_is_asked_once(s3: S3, claim: Claim) -> None:
    s3.fault = Fault(403, "AccessDenied")
    step = Postprocess(open_storage("s3://pictures"))
    with pytest.raises(PictureFailed) as raised:
        await Delivery(step, SETTINGS).store(PICTURE, claim)
    assert step.calls == 1
    assert str(raised.value) == (
        "The picture could not be stored: s3://pictures answered 403 Forbidden (AccessDenied): "
        "check the AWS_* credentials and the bucket's policy."
    )


async def test_a_disk_that_fills_between_two_files_keeps_none(
    tmp_path: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        storage = open_storage(disk.as_uri())
        put = type(storage).put
        seen = []
        filled = asyncio.Event()

        async def put_and_fill(self: Storage, key: str, data: bytes, media_type: str) -> None:
            if "/original-" not in key:
                await filled.wait()
            await put(self, key, data, media_type)
            seen.extend(names(disk))
            fill(disk)
            filled.set()

        monkeypatch.setattr(type(storage), "put", put_and_fill)
        step = Postprocess(storage)
        delivery = Delivery(step, SETTINGS)
        with pytest.raises(PictureFailed, match=r"disk of file:///.*/disk is full: make room"):
            await delivery.store(PICTURE, claim)
        assert step.calls == 1
        [original] = seen
        assert original.startswith("original-")
        await delivery.discard(claim)
        assert names(disk) == [".ballast"]


async def test_a_step_that_hangs_is_given_up(tmp_path: Path, claim: Claim) -> None:
    step = Postprocess(open_storage(tmp_path.as_uri()), hang_s=30)
    settings = WorkerSettings(store_tries=2, store_timeout_s=0.1)
    with pytest.raises(PictureFailed, match=r"Storage did not answer within 0\.1 s"):
        await Delivery(step, settings).store(PICTURE, claim)
    assert step.calls == 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidKey("'x' is no key."), "The picture could not be stored: 'x' is no key."),
        (InvalidPicture("No picture."), "The picture could not be encoded: No picture."),
    ],
)
async def test_what_would_fail_again_is_not_repeated(
    tmp_path: Path, claim: Claim, error: Exception, sentence: str
) -> None:
    step = Postprocess(open_storage(tmp_path.as_uri()), error)
    with pytest.raises(PictureFailed) as raised:
        await Delivery(step, SETTINGS).store(PICTURE, claim)
    assert step.calls == 1
    assert str(raised.value) == sentence


async def test_the_unforeseen_goes_on_to_the_worker(tmp_path: Path, claim: Claim) -> None:
    step = Postprocess(open_storage(tmp_path.as_uri()), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await Delivery(step, SETTINGS).store(PICTURE, claim)
    assert step.calls == 1


async def test_discarding_takes_one_attempt_alone(tmp_path: Path, claim: Claim) -> None:
    storage = open_storage(tmp_path.as_uri())
    first, second = PostprocessTask.of(claim), PostprocessTask.of(claim)
    second = replace(second, attempt=2)
    kept = await store_picture(storage, PICTURE, first)
    await store_picture(storage, PICTURE, second)
    await discard_picture(storage, second)
    listed = {found.key async for page in storage.list() for found in page}
    assert listed == {file.storage_key for file in kept.files}


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (40, 10)]
)
def test_pauses_grow_up_to_a_bound(attempt: int, longest: float) -> None:
    drawn = [pause(attempt) for _ in range(100)]
    assert longest / 2 <= min(drawn) < max(drawn) <= longest
