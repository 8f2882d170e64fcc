"""The storage that runs full, by the real `FolderStorage`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.chaos.picture_disk import PictureDisk
from serve.storage import StorageUnavailable, open_storage

PICTURE = bytes(100_000)


@pytest.fixture(params=["mounted", "plain"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[PictureDisk, Path]]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    disk = PictureDisk(folder, 16 * 2**20)
    if request.param == "mounted":
        disk.mount()
        if not disk.mounted:
            pytest.skip("This process may not mount.")
    yield disk, folder
    disk.free()
    disk.unmount()


async def test_nothing_is_stored_until_there_is_room_again(
    disk: tuple[PictureDisk, Path],
) -> None:
    picture_disk, folder = disk
    storage = open_storage(folder.as_uri())
    await storage.put("job/first.png", PICTURE, "image/png")
    picture_disk.fill()
    with pytest.raises(StorageUnavailable):
        await storage.put("job/second.png", PICTURE, "image/png")
    picture_disk.free()
    await storage.put("job/third.png", PICTURE, "image/png")
    assert await storage.get("job/first.png") == PICTURE
    assert await storage.get("job/third.png") == PICTURE
