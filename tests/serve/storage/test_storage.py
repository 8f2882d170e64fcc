"""One protocol, kept by a folder and by a bucket."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.storage import (
    InvalidKey,
    InvalidStorageUrl,
    ObjectExists,
    ObjectMissing,
    Storage,
    StorageUnavailable,
    open_storage,
)
from tests.serve.storage.s3 import S3, serve_s3

KEY = "tenant/job/0/1/original.png"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """The S3 protocol over HTTP, on a free port."""
    with serve_s3() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """Each kind of storage, empty."""
    if request.param == "folder":
        return open_storage((tmp_path / "a folder").as_uri())
    s3.clear()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return open_storage("s3://pictures/prefix")


async def keys(storage: Storage, prefix: str = "") -> list[str]:
    """What the storage lists, sorted."""
    return sorted([found.key async for page in storage.list(prefix) for found in page])


async def test_what_was_put_is_got(storage: Storage) -> None:
    data = os.urandom(300_000)
    await storage.put(KEY, data, "image/png")
    assert await storage.get(KEY) == data


async def test_a_part_is_got(storage: Storage) -> None:
    data = os.urandom(300_000)
    await storage.put(KEY, data, "image/png")
    for start, stop in ((0, 1), (1000, 200_000), (299_999, 300_000)):
        assert await storage.get_range(KEY, start, stop) == data[start:stop]
    with pytest.raises(ObjectMissing, match="other"):
        await storage.get_range("other", 0, 1)


async def test_an_object_is_looked_at_without_its_bytes(storage: Storage) -> None:
    await storage.put(KEY, b"first", "image/png")
    await storage.put("another", b"other", "image/png")
    seen = await storage.look(KEY)
    assert (seen.key, seen.size) == (KEY, 5)
    assert seen.tag == (await storage.look(KEY)).tag
    assert seen.tag not in (None, (await storage.look("another")).tag)
    with pytest.raises(ObjectMissing, match="none"):
        await storage.look("none")


async def test_an_object_is_never_overwritten(storage: Storage) -> None:
    await storage.put(KEY, b"first", "image/png")
    with pytest.raises(ObjectExists, match=KEY):
        await storage.put(KEY, b"second", "image/png")
    assert await storage.get(KEY) == b"first"


async def test_the_same_bytes_may_be_put_again(storage: Storage) -> None:
    await storage.put(KEY, b"first", "image/png")
    await storage.put(KEY, b"first", "image/png")
    assert await keys(storage) == [KEY]


async def test_a_missing_object_is_named(storage: Storage) -> None:
    with pytest.raises(ObjectMissing, match=KEY):
        await storage.get(KEY)


async def test_deleting_passes_over_what_is_missing(storage: Storage) -> None:
    for name in ("a/1", "a/2", "a/3"):
        await storage.put(name, b"x", "image/png")
    await storage.delete(["a/0", "a/1", "a/none", "a/3"])
    assert await keys(storage) == ["a/2"]
    await storage.delete([])


async def test_a_prefix_is_whole_segments(storage: Storage) -> None:
    for name in ("job/1/original.png", "job/1/thumbnail.webp", "job/10/original.png"):
        await storage.put(name, b"x", "image/png")
    one = ["job/1/original.png", "job/1/thumbnail.webp"]
    assert await keys(storage, "job/1") == one
    assert await keys(storage, "job/1/") == one
    assert len(await keys(storage)) == 3
    assert await keys(storage, "nothing") == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "a/./b", ".hidden", "a\\b"),
        *("a#1", "a\0b", "a%2e%2e/b", "ä", "a\n", "k" * 513),
    ],
)
async def test_no_key_leads_elsewhere(storage: Storage, key: str) -> None:
    with pytest.raises(InvalidKey):
        await storage.put(key, b"x", "image/png")
    with pytest.raises(InvalidKey):
        await storage.get(key)
    with pytest.raises(InvalidKey):
        await storage.look(key)
    with pytest.raises(InvalidKey):
        await storage.get_range(key, 0, 1)
    with pytest.raises(InvalidKey):
        await storage.delete([key])
    assert await keys(storage) == []


async def test_a_storage_travels_to_another_process(storage: Storage) -> None:
    await storage.put(KEY, b"x", "image/png")
    copy = pickle.loads(pickle.dumps(storage))  # noqa: S301 our own bytes
    assert await copy.get(KEY) == b"x"


async def test_a_bucket_keeps_the_media_type_and_the_prefix(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    await open_storage("s3://pictures/deep/prefix").put("a.webp", b"x", "image/webp")
    assert s3.objects["pictures/deep/prefix/a.webp"] == (b"x", "image/webp")


async def test_a_bucket_out_of_reach_is_unavailable(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageUnavailable, match="AWS_"):
        await open_storage("s3://forbidden").put("a.png", b"x", "image/png")


async def test_a_file_is_synced_with_the_folders_that_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    await open_storage(tmp_path.as_uri()).put("a/b/c.png", b"x", "image/png")
    assert synced == [(tmp_path / name).stat().st_ino for name in ("a/b/c.png", "a/b", "a", "")]


async def test_a_write_that_was_cut_short_is_not_listed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    await storage.put("a/b.png", b"whole", "image/png")
    (tmp_path / "a" / "c.png#1").write_bytes(b"ha")  # what a crash leaves of a staged file
    assert await keys(storage) == ["a/b.png"]
    await storage.put("a/c.png", b"whole", "image/png")
    assert await storage.get("a/c.png") == b"whole"


async def test_a_full_or_closed_disk_is_unavailable(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        await storage.put("file/below", b"x", "image/png")
    with pytest.raises(StorageUnavailable, match="SFUMATO_STORAGE_URL"):
        open_storage((tmp_path / "file").as_uri() + "/below")


@pytest.mark.parametrize("url", ["/folder", "ftp://host/x", "s3://", "file://host/x", "", "file:"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidStorageUrl, match="SFUMATO_STORAGE_URL"):
        open_storage(url)
