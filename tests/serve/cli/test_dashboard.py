"""Whether Ray's dashboard is open to others, by real servers in its place."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from prometheus_client import start_http_server

from serve.cli import doctor
from serve.cli.doctor import Listener, faults, listeners, tells_metrics
from serve.settings import Settings

STANDS_FOR_RAY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
HTTPServer((sys.argv[1], 0), Handler).serve_forever()
"""


@contextmanager
def answering(status: int, host: str = "127.0.0.1") -> Iterator[Listener]:
    """A server that answers everything with the status, unless there is a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "Authorization" in self.headers else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Listener(host, server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_loopback_with_a_token_is_well(status: int) -> None:
    with answering(status) as listener:
        assert faults([listener]) == []


@pytest.mark.parametrize("status", [200, 204, 302, 500])
def test_an_answer_without_a_token_is_told(status: int) -> None:
    with answering(status) as listener:
        problems = faults([listener])

    assert problems[0] == f"{listener.url}/api/jobs/ answers {status} without a token"


def test_another_address_is_told_even_with_a_token() -> None:
    with answering(401, "0.0.0.0") as listener:  # noqa: S104
        (problem,) = faults([listener])

    assert "listens on 0.0.0.0:" in problem
    assert listener.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::", False),
        ("192.0.2.1", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert Listener(host, 1).loopback is loopback


def test_a_port_for_prometheus_is_no_dashboard() -> None:
    server, thread = start_http_server(0, "0.0.0.0")  # noqa: S104 - as Ray starts it
    assert tells_metrics(Listener("127.0.0.1", server.server_port))
    server.shutdown()
    thread.join()
    with answering(200) as listener:
        assert not tells_metrics(listener)


def test_a_port_that_nobody_answers_gives_nothing_away() -> None:
    with answering(200) as listener:
        pass
    assert faults([listener]) == []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[str]]:
    """A program of the dashboard's name; its address and its answer are to be appended."""
    program = tmp_path / "ray" / "dashboard" / "dashboard.py"
    program.parent.mkdir(parents=True)
    program.write_text(STANDS_FOR_RAY)
    command = [sys.executable, str(program)]
    yield command
    for child in psutil.Process().children():
        if str(program) in child.cmdline():
            child.kill()
            child.wait()


@pytest.mark.parametrize(
    ("host", "status", "sick"),
    [("127.0.0.1", "401", False), ("127.0.0.1", "200", True), ("0.0.0.0", "401", True)],  # noqa: S104
)
def test_doctor_finds_it_by_its_process(
    started: list[str], monkeypatch: pytest.MonkeyPatch, host: str, status: str, sick: bool
) -> None:
    running = psutil.Process(subprocess.Popen([*started, host, status]).pid)
    until = time.monotonic() + 10
    while not (ports := list(listeners(running))) and time.monotonic() < until:
        time.sleep(0.02)
    # Other dashboards of this machine are not this test's.
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([running]))

    assert list(doctor.dashboards()) == ports
    finding = doctor._ray_dashboard(Settings())

    assert bool(finding.cure) is sick
    assert f"{ports[0].port}" in finding.state


def test_without_ray_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([psutil.Process()]))

    assert doctor._ray_dashboard(Settings()).cure == ""
