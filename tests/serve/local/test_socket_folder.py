"""Folders for sockets: short, private, and nobody else's."""

import os
import tempfile
from pathlib import Path

import pytest

from serve.local.account import Account
from serve.local.data_folder import make_private, socket_folder
from serve.local.errors import FolderUnreachable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
SOMEBODY = 1234


def test_it_lies_in_the_data_folder_where_the_path_is_short() -> None:
    assert socket_folder("valkey", Path("/srv/data")) == Path("/srv/data/run/valkey")


def test_a_long_path_has_one_short_folder_of_its_own() -> None:
    long, other = Path("/srv/" + "a" * 90), Path("/srv/" + "b" * 90)
    folder = socket_folder("valkey", long)
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder == socket_folder("valkey", long)
    assert folder != socket_folder("valkey", other)
    assert folder != socket_folder("postgres", long)


def test_a_long_temporary_folder_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/var/" + "t" * 90)
    assert socket_folder("valkey", Path("/srv/" + "a" * 90)).parent == Path("/tmp")  # noqa: S108


def test_it_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "valkey"
    make_private(folder, Account())
    folder.chmod(0o777)
    make_private(folder, Account())
    assert folder.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_takes_a_user_s_data_folder_over(tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)
    make_private(folder, Account())


@as_root
def test_somebody_else_s_folder_in_a_shared_place_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    folder = tmp_path / "valkey"
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(FolderUnreachable, match=str(SOMEBODY)):
        make_private(folder, Account())


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "valkey").symlink_to(tmp_path / "elsewhere")
    tmp_path.chmod(0o1777)
    with pytest.raises(FolderUnreachable):
        make_private(tmp_path / "valkey", Account())
