"""What storage does when its disk or its bucket fails: real disks, real HTTP, real kills."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from serve.storage import (
    Storage,
    StorageError,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
    open_storage,
)
from tests.serve.storage.disk import mount, small_disk, unmount
from tests.serve.storage.s3 import S3, Fault, serve_s3

KEY = "job/image/1/original.png"
NOBODY = 65534
spawn = multiprocessing.get_context("spawn")


async def keys(storage: Storage) -> list[str]:
    return sorted([found.key async for page in storage.list() for found in page])


def tree(folder: Path) -> list[str]:
    """Everything below the folder, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def files(folder: Path) -> list[str]:
    return [name for name in tree(folder) if (folder / name).is_file()]


async def put(storage: Storage, key: str = KEY, data: bytes = b"x") -> None:
    await storage.put(key, data, "image/png")


async def test_a_full_disk_keeps_what_it_has_and_nothing_half(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        storage = open_storage(disk.as_uri())
        await put(storage, "a/1.png", bytes(20_000))
        before = tree(disk)
        with pytest.raises(StorageFull, match="is full: make room") as raised:
            await put(storage, "b/c/2.png", bytes(60_000))
        assert "\n" not in str(raised.value)
        assert tree(disk) == before
        assert await storage.get("a/1.png") == bytes(20_000)
        await storage.delete(["a/1.png"])
        assert tree(disk) == []
        await put(storage, "b/c/2.png", bytes(60_000))
        assert await storage.get("b/c/2.png") == bytes(60_000)


async def test_a_disk_without_room_for_names_leaves_no_empty_folders(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,nr_inodes=4") as disk:
        storage = open_storage(disk.as_uri())
        with pytest.raises(StorageFull):
            await put(storage, "a/b/c/d/e.png")
        assert tree(disk) == []


async def test_a_read_only_disk_can_still_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        storage = open_storage(disk.as_uri())
        await put(storage)
        mount(disk, "remount,ro")
        with pytest.raises(StorageForbidden, match="Read-only file system"):
            await put(storage, "other.png")
        with pytest.raises(StorageForbidden, match="Read-only file system"):
            await storage.delete([KEY])
        with pytest.raises(StorageForbidden):
            open_storage((disk / "below").as_uri())
        assert await storage.get(KEY) == b"x"


def put_as_nobody(url: str, said: Connection) -> None:
    storage = open_storage(url)
    asyncio.run(asyncio.to_thread(int))  # imports what nobody may not
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        asyncio.run(put(storage))
    except StorageError as error:
        said.send((type(error).__name__, str(error)))
    else:
        said.send(("", ""))


def test_a_folder_of_somebody_else_is_forbidden() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own are closed to others
        folder = Path(name)
        folder.chmod(0o555)
        ours, theirs = spawn.Pipe()
        child = spawn.Process(target=put_as_nobody, args=(folder.as_uri(), theirs))
        child.start()
        theirs.close()
        kind, sentence = ours.recv()
        child.join()
        assert kind == "StorageForbidden"
        assert sentence == (
            f"{folder.as_uri()} cannot be used: Permission denied. Make it writable, or set "
            "SFUMATO_STORAGE_URL to another folder."
        )
        assert tree(folder) == []


async def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    storage = open_storage(folder.as_uri())
    await put(storage)
    shutil.rmtree(folder)
    for call in (put(storage), storage.get(KEY), storage.delete([KEY]), keys(storage)):
        with pytest.raises(StorageUnavailable, match="is gone: mount it or make it again"):
            await call
    assert not folder.exists()
    folder.mkdir()
    await put(storage)
    assert await keys(storage) == [KEY]


async def test_a_folder_may_be_opened_without_making_it(tmp_path: Path) -> None:
    url = (tmp_path / "pictures").as_uri()
    with pytest.raises(StorageUnavailable, match="is gone: mount it or make it again"):
        open_storage(url, make=False)
    assert tree(tmp_path) == []
    await put(open_storage(url))
    assert await open_storage(url, make=False).get(KEY) == b"x"


async def test_nothing_is_written_where_a_disk_was_pulled_out(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        storage = open_storage(disk.as_uri())
        await put(storage)
        unmount(disk)
        with pytest.raises(StorageUnavailable, match="no longer mounted"):
            await put(storage)
        with pytest.raises(StorageUnavailable, match="no longer mounted"):
            await keys(storage)
        assert tree(disk) == []
        mount(disk, "size=64k")
        await put(storage)
        assert tree(disk)


async def test_the_reason_of_a_failed_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = open_storage(tmp_path.as_uri())
    with pytest.raises(StorageUnavailable, match="failed: Not a directory"):
        await storage.get("file/below")


def put_for_ever(folder: str, said: Connection) -> None:
    """Objects that are named by their digests."""

    async def work() -> None:
        storage = open_storage(folder)
        for number in count():
            data = random.randbytes(random.randrange(1, 2_000_000))
            digest = hashlib.sha256(data).hexdigest()
            await put(storage, f"{digest[:2]}/{digest}.png", data)
            if number == 0:
                said.send("started")

    asyncio.run(work())


async def test_a_killed_writer_leaves_nothing_half_that_is_listed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    chance = random.Random(7)
    remains = kills = 0
    while kills < 8 or (not remains and kills < 40):
        kills += 1
        ours, theirs = spawn.Pipe()
        child = spawn.Process(target=put_for_ever, args=(tmp_path.as_uri(), theirs))
        child.start()
        theirs.close()
        ours.recv()
        await asyncio.sleep(chance.uniform(0.005, 0.15))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        listed = await keys(storage)
        for key in listed:
            digest = hashlib.sha256(await storage.get(key)).hexdigest()
            assert key == f"{digest[:2]}/{digest}.png"
        remains += len(files(tmp_path)) - len(listed)
        await storage.remove_remains(datetime.now(UTC) + timedelta(hours=1))
        assert files(tmp_path) == listed
        assert {str(Path(key).parent) for key in listed} == set(tree(tmp_path)) - set(listed)
    assert await keys(storage)
    assert remains  # some of the kills did hit a write


async def test_only_old_remains_are_removed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    await put(storage, "a/whole.png")
    for name in ("a/old.png#1", "a/young.png#22", "b/c/old.png#333", "a/not#one", ".a/b.png#1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"ha")
    for name in ("old empty/", "empty/deep", "fresh"):
        (tmp_path / name).mkdir(parents=True)
    hour_ago = time.time() - 3600
    kept = {"a/young.png#22", "fresh"}
    for name in set(tree(tmp_path)) - kept:
        os.utime(tmp_path / name, (hour_ago, hour_ago))
    removed = await storage.remove_remains(datetime.now(UTC) - timedelta(minutes=30))
    foreign = {".a", ".a/b.png#1", "a/not#one", "old empty"}  # no names that storage gives
    assert set(tree(tmp_path)) == foreign | kept | {"a", "a/whole.png"}
    assert removed == 6


class Sweeper:
    """Takes an empty folder away in the middle of a write, as often as `times` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, folder: Path, times: int):
        self._folder = folder
        self.times = times
        self._real = getattr(os, call)
        monkeypatch.setattr(os, call, self)

    def __call__(self, path: str | Path, *args: int) -> object:
        if self.times and Path(path).parent == self._folder and self._folder.is_dir():
            self.times -= 1
            self._folder.rmdir()
        return self._real(path, *args)


@pytest.mark.parametrize(
    ("call", "folder"),
    [("mkdir", "a"), ("open", "a/b")],
    ids=["before-its-folder-is-made", "before-its-file-is-made"],
)
async def test_a_folder_that_is_swept_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, folder: str
) -> None:
    storage = open_storage(tmp_path.as_uri())
    sweeper = Sweeper(monkeypatch, call, tmp_path / folder, times=3)
    await put(storage, "a/b/x.png")
    assert sweeper.times == 0
    assert tree(tmp_path) == ["a", "a/b", "a/b/x.png"]


async def test_a_folder_that_is_always_swept_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(tmp_path.as_uri())
    Sweeper(monkeypatch, "open", tmp_path / "a", times=10**6)
    with pytest.raises(StorageUnavailable, match="failed: No such file or directory"):
        await put(storage, "a/x.png")
    assert tree(tmp_path) == []


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with serve_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (Fault(500), StorageUnavailable, "answered 500 Internal Server Error .InternalError."),
        (Fault(503, "SlowDown"), StorageUnavailable, "answered 503 .*SlowDown.: try again later"),
        (Fault(507, "XMinioStorageFull"), StorageFull, "the storage is full"),
        (Fault(403, "AccessDenied"), StorageForbidden, "check the AWS_. credentials"),
        (Fault(401, "InvalidToken"), StorageForbidden, "check the AWS_. credentials"),
        (Fault(404, "NoSuchBucket"), StorageUnavailable, "NoSuchBucket.: make the bucket"),
        (Fault(400, "InvalidRequest"), StorageUnavailable, "check the AWS_. region"),
        (Fault(301, "PermanentRedirect"), StorageUnavailable, "set AWS_REGION"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else None,
)
async def test_a_bucket_that_fails_says_how(
    s3: S3, fault: Fault, kind: type[StorageUnavailable], sentence: str
) -> None:
    s3.fault = fault
    storage = open_storage("s3://pictures/prefix")
    for call in (put(storage), keys(storage), storage.delete([KEY])):
        with pytest.raises(StorageUnavailable, match=sentence) as raised:
            await call
        assert type(raised.value) is kind
        assert "\n" not in str(raised.value)
        assert "127.0.0.1" not in str(raised.value)
    s3.fault = None
    assert s3.objects == {}
    await put(storage)
    assert await storage.get(KEY) == b"x"


async def test_a_bucket_that_stumbles_is_asked_again(s3: S3) -> None:
    s3.fault = Fault(503, "SlowDown", times=2)
    storage = open_storage("s3://pictures")
    await put(storage)
    assert s3.requests == 3
    assert await storage.get(KEY) == b"x"


async def test_a_bucket_that_hangs_is_given_up(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.storage.bucket._TIMEOUT", timedelta(seconds=0.3))
    s3.fault = Fault(hang_s=1)
    with pytest.raises(StorageUnavailable, match="does not answer in time"):
        await put(open_storage("s3://pictures"))


async def test_a_bucket_that_nobody_serves_cannot_be_reached(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(StorageUnavailable, match="cannot be reached: check the network"):
            await put(open_storage("s3://pictures"))


async def test_a_bucket_is_listed_page_by_page(s3: S3) -> None:
    s3.page = 3
    storage = open_storage("s3://pictures/prefix")
    for number in range(8):
        await put(storage, f"a/{number}.png")
    s3.requests = 0
    assert await keys(storage) == [f"a/{number}.png" for number in range(8)]
    assert s3.requests == 3
