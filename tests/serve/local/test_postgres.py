"""A real Postgres, started, killed and started again."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serve.local import account
from serve.local.errors import AlreadyRunning, FolderUnreachable, NotInstalled, StartFailed
from serve.local.postgres import LocalPostgres
from serve.local.process import command_line, wait_until
from tests.conftest import query
from tests.serve.local.conftest import Owner

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")


@pytest.fixture(scope="module", autouse=True)
def numbers(data_dir: Path) -> Iterator[None]:
    """A row from the first start, which every later start must still find."""
    with LocalPostgres(data_dir) as server:
        query(server.url, "CREATE TABLE numbers AS SELECT 42 AS number")
    yield
    with LocalPostgres(data_dir) as server:
        assert query(server.url, "SELECT number FROM numbers") == "42"


def test_a_restart_keeps_the_data_and_the_address(data_dir: Path) -> None:
    server = LocalPostgres(data_dir)
    for _ in range(2):
        server.start()
        assert query(server.url, "SELECT number FROM numbers") == "42"
        server.stop()
        assert not server.running
    assert server.url == LocalPostgres(data_dir).url


def test_it_is_durable_unicode_and_not_on_the_network(data_dir: Path) -> None:
    with LocalPostgres(data_dir) as server:
        values = {
            name: query(server.url, f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "server_encoding", "listen_addresses")
        }
        assert query(server.url, "SELECT upper('ä')") == "Ä"
    assert values == {
        "fsync": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
    }


def test_only_the_owner_may_enter_the_socket_folder(data_dir: Path) -> None:
    with LocalPostgres(data_dir) as server:
        folder = Path(server.url.partition("?host=")[2])
        assert (folder / ".s.PGSQL.5432").is_socket()
        assert folder.stat().st_mode & 0o777 == 0o700


def test_it_recovers_from_kill_9(data_dir: Path) -> None:
    server = LocalPostgres(data_dir)
    server.start()
    assert server.pid is not None
    query(server.url, "CREATE TABLE IF NOT EXISTS survivors (id int)")
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, seconds=5)
    assert (data_dir / "postgres" / "postmaster.pid").exists()
    server.stop()

    with server:
        assert query(server.url, "SELECT count(*) FROM survivors") == "0"


def test_a_second_start_names_the_owner(data_dir: Path, owner: Owner) -> None:
    process, pid = owner(script(data_dir))
    with pytest.raises(AlreadyRunning, match=f"process {process.pid}") as caught:
        LocalPostgres(data_dir).start()
    assert caught.value.pid == process.pid
    assert "postgres" in command_line(pid)


def test_the_same_process_cannot_start_it_twice(data_dir: Path) -> None:
    with LocalPostgres(data_dir) as server:
        with pytest.raises(AlreadyRunning):
            LocalPostgres(data_dir).start()
        assert query(server.url, "SELECT 1") == "1"


def test_an_orphan_is_ended_and_replaced(data_dir: Path, owner: Owner) -> None:
    # Started from a side thread, the server does not watch its owner.
    process, orphan = owner(
        "import threading\n"
        f"{script(data_dir, start=False)}\n"
        "thread = threading.Thread(target=server.start)\n"
        "thread.start()\n"
        "thread.join()"
    )
    process.kill()
    process.wait()
    assert "postgres" in command_line(orphan)

    with LocalPostgres(data_dir) as server:
        assert command_line(orphan) == ""
        assert server.pid != orphan
        assert query(server.url, "SELECT number FROM numbers") == "42"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_it_ends_with_a_killed_owner(data_dir: Path, owner: Owner) -> None:
    process, pid = owner(script(data_dir))
    process.kill()
    process.wait()
    assert wait_until(lambda: command_line(pid) == "", seconds=10)


def test_ctrl_c_does_not_reach_it(data_dir: Path) -> None:
    with LocalPostgres(data_dir) as server:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_a_pid_that_came_round_again_is_no_server(data_dir: Path) -> None:
    pid_file = data_dir / "postgres" / "postmaster.pid"
    # An innocent process of the server's own user, which alone makes Postgres refuse to start.
    innocent = subprocess.Popen(
        ["/bin/sleep", "60"], user=(data_dir / "postgres").stat().st_uid if is_root() else None
    )
    try:
        pid_file.write_text(f"{innocent.pid}\n{data_dir / 'postgres'}\n")
        with LocalPostgres(data_dir) as server:
            assert query(server.url, "SELECT 1") == "1"
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_server_that_nobody_reaps_does_not_bar_the_next(data_dir: Path) -> None:
    """As in a container whose process 1 reaps nothing."""
    first = LocalPostgres(data_dir)
    first.start()
    assert first.pid is not None
    zombie = psutil.Process(first.pid)
    zombie.kill()
    assert wait_until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, seconds=10)
    first._lock.release()  # as the kernel does when the owner dies
    with LocalPostgres(data_dir) as second:
        assert zombie.status() == psutil.STATUS_ZOMBIE
        assert query(second.url, "SELECT number FROM numbers") == "42"
    first.stop()


@pytest.mark.parametrize("torn", ["", "\n", "no number\n", "-1\n", "0\n"])
def test_a_torn_pid_file_does_not_bar_the_start(data_dir: Path, torn: str) -> None:
    (data_dir / "postgres" / "postmaster.pid").write_text(torn)
    with LocalPostgres(data_dir) as server:
        assert query(server.url, "SELECT number FROM numbers") == "42"


def test_a_folder_that_a_copy_opened_is_closed_again(data_dir: Path) -> None:
    (data_dir / "postgres").chmod(0o755)
    with LocalPostgres(data_dir) as server:
        assert query(server.url, "SELECT number FROM numbers") == "42"
    assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700


def test_an_empty_folder_is_filled(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("empty")
    (folder / "postgres").mkdir()
    with LocalPostgres(folder) as server:
        assert query(server.url, "SELECT current_database()") == "sfumato"


@pytest.mark.parametrize("left", [None, b"scribbled" * 900])
def test_damaged_files_are_told_with_the_cure(data_dir: Path, left: bytes | None) -> None:
    control = data_dir / "postgres" / "global" / "pg_control"
    kept = control.with_name("kept")
    control.rename(kept)
    if left is not None:
        control.write_bytes(left)
        os.chown(control, kept.stat().st_uid, kept.stat().st_gid)
    try:
        with pytest.raises(StartFailed, match="restore the data folder from a backup, or set SFUM"):
            LocalPostgres(data_dir).start()
    finally:
        kept.rename(control)


def test_half_made_files_are_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("half")
    (folder / "postgres.partial").mkdir()
    (folder / "postgres.partial" / "PG_VERSION").write_text("18\n")
    with LocalPostgres(folder) as server:
        assert query(server.url, "SELECT current_database()") == "sfumato"
    assert not (folder / "postgres.partial").exists()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20)
    # pytest's own folders are closed (0700): as root this also walks where nobody else may.
    with LocalPostgres(folder) as server:
        assert len(server.url) < 150
        assert query(server.url, "SELECT 1") == "1"
    assert (folder / "postgres" / "PG_VERSION").exists()
    Path(server.url.partition("?host=")[2]).rmdir()


@as_root
def test_a_closed_parent_without_the_right_to_pass_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(account, "permitted_capabilities", lambda: 0)
    with pytest.raises(FolderUnreachable, match="SFUMATO_DATA_DIR"):
        LocalPostgres(tmp_path).start()


@as_root
def test_it_runs_as_nobody(data_dir: Path) -> None:
    with LocalPostgres(data_dir) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
    assert f"Uid:\t{account.NOBODY}\t{account.NOBODY}" in status
    assert "CapEff:\t0000000000000000" in status  # nothing bars the way, so nothing is given


def test_a_failed_start_tells_why_and_leaves_nothing(data_dir: Path) -> None:
    version = data_dir / "postgres" / "PG_VERSION"
    version.write_text("9\n")
    try:
        server = LocalPostgres(data_dir)
        with pytest.raises(StartFailed, match="incompatible") as caught:
            server.start()
        assert str(data_dir / "logs" / "postgres.log") in str(caught.value)
        assert "of another version of Postgres: dump it" in str(caught.value)
        assert not server.running
    finally:
        version.write_text("18\n")
    with server:  # the lock was given back
        assert server.running


def test_a_missing_wheel_names_the_cure(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotInstalled, match="DATABASE_URL"):
        LocalPostgres(data_dir).start()


def script(data_dir: Path, *, start: bool = True) -> str:
    """Python that runs a `server` in the folder."""
    lines = [
        "from pathlib import Path",
        "from serve.local.postgres import LocalPostgres",
        f"server = LocalPostgres(Path({str(data_dir)!r}))",
        "server.start()" if start else "",
    ]
    return "\n".join(lines)


def is_root() -> bool:
    """Whether these tests run as root."""
    return os.geteuid() == 0
