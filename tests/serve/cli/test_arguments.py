"""What a command refuses before it draws, measures or sends a request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve.cli.main import app
from serve.local.port import free_port
from tests.serve.observability.told import reported

run = CliRunner().invoke
KEY = "a-key-of-24-characters-or-more"


class CountingServer(ThreadingHTTPServer):
    """Counts requests, and answers as a service that is not ready."""

    count = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: CountingServer

    def do_GET(self) -> None:
        self.server.count += 1
        self.send_response(503)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"not yet")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[CountingServer]:
    server = CountingServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: CountingServer) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("SFUMATO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SFUMATO_PORT", str(service.server_address[1]))
    monkeypatch.setenv("SFUMATO_API_KEY", KEY)
    (tmp_path / "folder.png").mkdir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "red heart", "-o", "no/such/heart.png"], "there is no folder no/such"),
        (["generate", "red heart", "-o", "folder.png"], "folder.png is a folder"),
        (["generate", "red heart", "-o", "heart.gif"], "name a file that ends in .png"),
        (["generate", "red heart", "-o", "a.png", "--size", "512"], "'512' is no size"),
        (["generate", "red heart", "-o", "a.png", "--size", "0x64"], "'0x64' is no size"),
        (["generate", "red heart", "-o", "a.png", "--steps", "0"], "greater than or equal to 1"),
        (
            ["generate", "red heart", "-o", "a.png", "--guidance", "-1"],
            "than or equal to 0",
        ),
        (["generate", "red heart", "-o", "a.png", "--guidance", "nan"], "equal to 1000"),
        (["generate", "red heart", "-o", "a.png", "--seed", "-2"], "than or equal to -1"),
        (["generate", "  ", "-o", "a.png"], "The prompt is empty"),
        (["bench", "engine", "--json", "no/such/bench.json"], "there is no folder no/such"),
        (["bench", "served", "--json", "folder.png"], "folder.png is a folder"),
        (["bench", "served", "--load", "0"], "equal to 0.01"),
        (["bench", "served", "--peer", "127.0.0.1:8001"], "is no URL"),
        (["keys", "create", ""], "1 to 100 printable characters"),
        (["keys", "create", "a\x00b"], "1 to 100 printable characters"),
        (["keys", "create", "phone", "--tenant", "x" * 101], "1 to 100 printable characters"),
        (["keys", "list", "--tenant", " "], "1 to 100 printable characters"),
        (["keys", "revoke", "7"], "should be a valid UUID"),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(
    service: CountingServer, arguments: list[str], message: str
) -> None:
    result = run(app, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert service.count == 0


@pytest.mark.parametrize("command", [["up"], ["doctor"], ["migrate"], ["keys", "list"]])
def test_a_misspelt_setting_stops_every_command(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SFUMATO_PROT", "8000")
    result = run(app, command)
    assert result.exit_code == 2
    assert "SFUMATO_PROT is no setting; the nearest is SFUMATO_PORT" in result.output


def test_without_a_key_no_request_is_sent(
    monkeypatch: pytest.MonkeyPatch, service: CountingServer
) -> None:
    monkeypatch.delenv("SFUMATO_API_KEY")
    result = run(app, ["generate", "red heart", "-o", "heart.png"])
    assert result.exit_code == 1
    assert "There is no key: set SFUMATO_API_KEY" in result.output
    assert service.count == 0


def test_a_bench_asks_whether_the_service_is_ready_first(service: CountingServer) -> None:
    result = run(app, ["bench", "served"])
    assert result.exit_code == 1
    assert "not ready: not yet" in result.output
    assert service.count == 1


@pytest.mark.parametrize(
    "command", [["generate", "red heart", "-o", "heart.png"], ["bench", "served"]]
)
def test_this_machine_is_asked_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, service: CountingServer, command: list[str]
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    run(app, command)
    assert service.count == 1


def test_a_database_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:open-sesame@127.0.0.1:1/x")
    for command in (["migrate"], ["keys", "list"], ["up"]):
        with socket.socket() as free:  # `up` looks at its port before
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setenv("SFUMATO_PORT", str(port))
        result = run(app, command)
        assert result.exit_code == 1
        assert "Postgres at 127.0.0.1:1/x cannot be used" in result.output
        assert "sesame" not in result.output


def test_what_nobody_foresaw_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("serve.cli.doctor.run", lambda _: 1 // 0)
    with reported(process="up") as reports:
        result = run(app, ["doctor"])
    assert result.exit_code == 1
    (event,) = reports.events
    assert event["exception"]["values"][0]["type"] == "ZeroDivisionError"
    assert event["tags"] == {"process": "up"}
    assert "ZeroDivisionError: integer division" in result.output
    assert "Traceback" not in result.output
    (kept,) = tmp_path.glob("sfumato-*.traceback")
    assert str(kept) in result.output
    assert "1 // 0" in kept.read_text()
