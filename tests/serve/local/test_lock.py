"""One owner at a time, whatever the file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.local.data_folder import FolderLock
from serve.local.errors import AlreadyRunning, FolderUnreachable


@pytest.mark.parametrize("torn", ["", "12x", "\udcff"])
def test_an_owner_whose_pid_is_torn_is_another_process(tmp_path: Path, torn: str) -> None:
    first = FolderLock("up", tmp_path)
    first.claim()
    first.path.write_bytes(torn.encode(errors="surrogateescape"))
    with pytest.raises(AlreadyRunning) as caught:
        FolderLock("up", tmp_path).claim()
    assert caught.value.pid is None
    first.release()
    FolderLock("up", tmp_path).claim()


@pytest.mark.parametrize("place", ["/proc/sfumato", "/dev/null", f"/tmp/{'x' * 300}"])  # noqa: S108
def test_a_folder_that_cannot_be_is_told(place: str) -> None:
    with pytest.raises(FolderUnreachable, match="or set SFUMATO_DATA_DIR to a folder of your own"):
        FolderLock("up", Path(place)).claim()
