"""`sfumato keys` on a real Postgres."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from serve.cli.keys import app

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")


def test_scopes_and_an_end() -> None:
    made = run(
        app, ["create", "phone", "--scope", "read", "--scope", "admin", "--expires-in", "2d"]
    )
    plain = run(app, ["create", "laptop"])

    listing = run(app, ["list"]).output

    assert (made.exit_code, plain.exit_code) == (0, 0)
    assert re.match(r"sfm_[A-Za-z0-9_-]{43}\n", made.output)
    phone, laptop = [line for line in listing.splitlines() if "phone" in line or "laptop" in line]
    assert "admin, read" in phone
    assert "generate, read" in laptop
    made_at, ends_at = [
        datetime.fromisoformat(f"{time}:00+00:00") for time in re.findall(r"20[-\d]+ [:\d]+", phone)
    ]
    assert (ends_at - made_at).days == 2
    assert abs((made_at - datetime.now(UTC)).total_seconds()) < 120


@pytest.mark.parametrize("wrong", [["--scope", "root"], ["--expires-in", "soon"]])
def test_what_is_no_scope_and_no_time(wrong: list[str]) -> None:
    refused = run(app, ["create", "phone", *wrong])

    assert refused.exit_code == 2
    assert "phone" not in run(app, ["list"]).output


@pytest.mark.parametrize("time", ["0d", "99999d", "1.5h", "-1d", "1w", "1"])
def test_times_that_are_none(time: str) -> None:
    assert run(app, ["create", "phone", f"--expires-in={time}"]).exit_code == 2
