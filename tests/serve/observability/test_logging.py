"""Log lines of ours and of libraries, in one form."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from serve.observability.logging import configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_json_lines_carry_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        structlog.get_logger("ours").info("job.queued", n=2)
        logging.getLogger("theirs").warning("slow %s", "query")

    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert (ours["event"], ours["n"], ours["request_id"]) == ("job.queued", 2, "abc")
    assert (theirs["event"], theirs["logger"], theirs["request_id"]) == (
        "slow query",
        "theirs",
        "abc",
    )
    assert ours["level"] == "info"


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console")
    structlog.get_logger("ours").info("job.queued", n=2)

    line = capsys.readouterr().err

    assert "job.queued" in line
    assert "n=2" in line


def test_exceptions_are_told_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    structlog.get_logger("ours").error("failed", exc_info=RuntimeError("out of ink"))

    told = json.loads(capsys.readouterr().err)

    assert told["exception"][0]["exc_value"] == "out of ink"
