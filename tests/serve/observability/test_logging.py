"""Log lines of ours and of libraries, in one form."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from serve.observability.logging import adopt_loggers, configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, factory = root.handlers, root.level, logging.getLogRecordFactory()
    yield
    root.handlers, root.level = handlers, level
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)
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


PROMPT = "a secret unicorn"
KEY = "sfm_0123456789abcdefghij"


@pytest.fixture
def foreign() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A library's logger, and what its own handler writes."""
    written = io.StringIO()
    logger = logging.getLogger("foreign")
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)
    logger.propagate = True


def test_other_handlers_write_no_prompts_and_no_keys(
    foreign: tuple[logging.Logger, io.StringIO],
) -> None:
    configure_logging("json")
    logger, written = foreign

    logger.warning("prompt='%s' by Bearer %s", PROMPT, "abcdef")
    logger.warning("at %d%% of %s", 50, {"prompt": PROMPT})
    logger.warning("sent %s", f"postgresql://me:{KEY}@host/db")
    logger.warning("too few %s %s", f"?key={KEY}")  # which logging itself would print as they are
    try:
        raise ValueError(f"input_value={PROMPT!r}, input_type=str")  # noqa: TRY301
    except ValueError:
        logger.exception("failed")

    told = written.getvalue()
    assert PROMPT not in told
    assert KEY not in told
    assert "abcdef" not in told
    assert "at 50% of {'prompt': [redacted]}" in told
    assert "ValueError: input_value=[redacted], input_type=str" in told
    assert told.count("\n") > 5, "each record was written"


def test_what_holds_nothing_is_left_as_it_is(
    foreign: tuple[logging.Logger, io.StringIO], caplog: pytest.LogCaptureFixture
) -> None:
    """Some formatters, such as uvicorn's for accesses, read the arguments."""
    configure_logging("json")
    logger, written = foreign
    logger.addHandler(caplog.handler)

    logger.warning("%s is %d", "all", 1)

    assert caplog.records[-1].args == ("all", 1)
    assert written.getvalue() == "all is 1\n"


def test_prompts_are_told_where_they_may_be_and_keys_are_not(
    foreign: tuple[logging.Logger, io.StringIO],
) -> None:
    configure_logging("json", log_prompts=False)
    configure_logging("json", log_prompts=True)
    logger, written = foreign

    logger.warning("prompt='%s' ?key=%s", PROMPT, KEY)

    assert written.getvalue() == f"prompt='{PROMPT}' ?key=[redacted]\n"


def test_warnings_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)  # within the block, which has put pytest's aside
        warnings.warn(f"prompt={PROMPT!r}", UserWarning, stacklevel=1)

    told = json.loads(capsys.readouterr().err)

    assert told["logger"] == "py.warnings"
    assert "UserWarning: prompt=[redacted]" in told["event"]
    assert PROMPT not in told["event"]


@pytest.mark.parametrize("log_prompts", [False, True])
def test_what_a_text_encoder_cut_off_is_not_told(
    foreign: tuple[logging.Logger, io.StringIO],
    capsys: pytest.CaptureFixture[str],
    log_prompts: bool,
) -> None:
    configure_logging("json", log_prompts=log_prompts)
    logger, written = foreign
    cut = (
        "The following part of your input was truncated because CLIP can only handle sequences up"
        f" to 77 tokens: ['{PROMPT}',\n'and more']"
    )
    logger.warning(cut)
    assert (PROMPT in written.getvalue()) is log_prompts
    assert ("and more" in written.getvalue()) is log_prompts

    adopt_loggers("foreign")
    logger.warning(cut)
    logger.warning("another")

    (told,) = capsys.readouterr().err.splitlines()
    assert json.loads(told)["event"] == "another"
    assert logger.handlers == []


def test_exceptions_are_told_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    structlog.get_logger("ours").error("failed", exc_info=RuntimeError("out of ink"))

    told = json.loads(capsys.readouterr().err)

    assert told["exception"][0]["exc_value"] == "out of ink"
