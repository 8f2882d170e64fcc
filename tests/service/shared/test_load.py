"""`loadtests/locustfile.py`, as `make load` runs it, in a process of its own: gevent patches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.local.port import free_port
from tests.service.conftest import KEY, Service

ROOT = Path(__file__).parents[3]
LOCUST = str(Path(sys.executable).with_name("locust"))
LOCUSTFILE = str(ROOT / "loadtests/locustfile.py")
UNTIL = str(Path(__file__).with_name("until_each_succeeded.py"))
WANTED = [
    ("POST", "/v1/images/generations"),
    ("WS", "/v1/events: a job to its end"),
    ("GET", "/v1/images/[id]/original"),
    ("POST", "/v1/images/edits"),
    ("GET", "/"),
    ("GET", "/v1/images/[id]/thumbnail"),
    ("DELETE", "/v1/jobs/[id]"),
]
"""Methods and names of the last requests of each kind of person."""


def locust(url: str, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SFUMATO_")}
    return subprocess.run(
        [LOCUST, "--headless", "--only-summary", *arguments],
        env={
            **kept,
            "SFUMATO_URL": url,
            "SFUMATO_API_KEY": key,
            "SFUMATO_CLIENT_WANTED": json.dumps(WANTED),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_each_kind_of_person_is_served(service: Service, tmp_path: Path) -> None:
    """It ends once each was; two minutes are for a machine that does much else."""
    report, figures = tmp_path / "report.html", tmp_path / "figures"
    run = locust(
        service.url,
        *("-f", f"{LOCUSTFILE},{UNTIL}", "-u", "5", "-r", "5", "-t", "2m", "--stop-timeout", "0"),
        *("--html", str(report), "--json-file", str(figures)),
    )
    rows = json.loads(Path(f"{figures}.json").read_text())
    failed = {row["name"]: row["num_failures"] for row in rows if row["num_failures"]}
    assert not failed, run.stderr
    served = {(row["method"], row["name"]) for row in rows if row["num_requests"]}
    assert served >= set(WANTED)
    assert run.returncode == 0, run.stderr
    assert "/v1/images/generations" in report.read_text()


@pytest.mark.parametrize("shape", ["ramp", "burst", "soak"])
def test_a_shape_begins_with_few_and_ends_by_itself(
    service: Service, tmp_path: Path, shape: str
) -> None:
    files = f"{LOCUSTFILE},{ROOT}/loadtests/shapes/{shape}.py"
    run = locust(
        service.url,
        *("-f", files, "-u", "2", "-r", "10", "-t", "2s", "--stop-timeout", "0"),
        *("--json-file", str(tmp_path / "figures")),
    )
    assert run.returncode == 0, run.stderr
    assert "Shape test updating to 1 users" in run.stderr
    assert json.loads((tmp_path / "figures.json").read_text()), "nobody asked for anything"


def test_without_a_service_the_cure_is_named(service: Service) -> None:
    run = locust(f"http://127.0.0.1:{free_port()}", "-f", LOCUSTFILE, "-t", "1s")
    assert run.returncode == 2
    assert "start one with `sfumato up`" in run.stderr
    run = locust(service.url, "-f", LOCUSTFILE, "-t", "1s", key="a-key-that-nobody-has-made")
    assert run.returncode == 2
    assert "set SFUMATO_API_KEY" in run.stderr
