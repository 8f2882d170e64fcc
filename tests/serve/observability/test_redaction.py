"""No log line holds a secret, a prompt that may not be told, or a forged line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import text

from serve.database import Database
from serve.jobs.schemas import JobBody
from serve.observability.logging import REDACTED, Redactor, configure_logging

PROMPT = "a violet cathedral"
KEY = "sfm_Zk3n0xR8vQ1tY5uW7aB9cD2eF4gH6iJ8kL0mN2oP4"
TICKET = "T1cketT1cketT1cket"
Form = Literal["console", "json"]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def say_everything() -> None:
    """Every way in which a prompt or a secret came near a log line."""
    ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
    request = {"prompt": PROMPT, "negative_prompt": PROMPT, "n": 1}
    ours.info("job", prompt=PROMPT, negative_prompt=PROMPT, request=request, all=[request])
    ours.info("auth", authorization=f"Bearer {KEY}", headers={"X-API-Key": KEY}, ticket=TICKET)
    theirs.warning("got %s", request)
    theirs.warning("body %s", json.dumps(request))
    theirs.warning("GET /v1/events?after=1&ticket=%s HTTP/1.1", TICKET)
    theirs.warning("headers [(b'authorization', b'Bearer %s'), (b'x-api-key', b'%s')]", KEY, KEY)
    theirs.warning("no answer from postgresql://sfumato:%s@db/sfumato", TICKET)
    raised: list[Exception] = [
        ValueError(f"cannot draw {request!r} for {KEY}"),
        RequestValidationError([{"type": "x", "loc": ("body",), "msg": "m", "input": PROMPT}]),
    ]
    for body in ({"prompt": PROMPT, "steps": 1}, {"prompt": [PROMPT]}):
        with pytest.raises(ValidationError) as invalid:
            JobBody.model_validate(body)
        raised.append(invalid.value)
    for error in raised:
        ours.error("failed", error=str(error))
        _fail(error, PROMPT, KEY)


def _fail(error: Exception, prompt: str, key: str) -> None:
    """The frame's variables hold both."""
    try:
        raise error  # noqa: TRY301
    except Exception:
        assert prompt
        assert key
        logging.getLogger("theirs").exception("Exception in ASGI application")


@pytest.mark.parametrize("form", ["console", "json"])
def test_neither_prompts_nor_secrets(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form)
    say_everything()

    said = capsys.readouterr().err

    assert said.count("Exception in ASGI application") == 4
    assert "ValidationError" in said
    assert REDACTED in said
    for hidden in (PROMPT, "violet", KEY, KEY[4:], TICKET):
        assert hidden not in said


@pytest.mark.parametrize("form", ["console", "json"])
def test_prompts_where_they_are_allowed(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form, log_prompts=True)
    say_everything()

    said = capsys.readouterr().err

    assert said.count(PROMPT) >= 8
    for hidden in (KEY, KEY[4:], TICKET):
        assert hidden not in said


async def test_what_the_database_says_of_a_value(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json")
    database = Database(database_url, pool_size=1)
    key = f"Key {PROMPT}"
    for statement, value in (
        ("SELECT CAST(:x AS int)", PROMPT),  # asyncpg's own refusal
        ("SELECT CAST(CAST(:x AS text) AS uuid)", PROMPT),  # Postgres' refusal
        ("INSERT INTO tenants (id, name) SELECT uuidv7(), :x FROM generate_series(1, 2)", key),
    ):
        try:
            async with database.transaction() as session:
                await session.execute(text(statement), {"x": value})
        except Exception:
            logging.getLogger("theirs").exception("failed")
    await database.close()

    said = capsys.readouterr().err

    assert said.count('"event": "failed"') == 3
    assert "UniqueViolation" in said
    assert PROMPT not in said


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_value_cannot_forge_a_line(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form)
    forged = "x\r\n2026-01-01 [info] key.revoked\x1b[2J\x9b31m\u2028\u202e\ud800"
    structlog.get_logger("ours").info("said", value=forged, nested={forged: [forged]})
    logging.getLogger("theirs").warning("said %s", forged)
    logging.getLogger(forged).warning("named")
    _raise(forged)

    said = capsys.readouterr().err

    lines = said.splitlines()
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert not set(said) & set("\r\x1b\x9b\u2028\u202e\ud800")
    assert "\\x1b[2J" in said.replace("\\\\", "\\")
    if form == "json":
        assert [json.loads(line)["level"] for line in lines] == [
            "info",
            "warning",
            "warning",
            "error",
        ]


_PIECES = [
    "sfm_abcd",
    "whsec_Ab+/",
    "Bearer ",
    "beareR\t",
    "X-API-Key: ",
    "x-api-\u212aey=",
    "x-ap\u0130-key:",
    "?key=",
    "&TOKEN=",
    "&to\u212aen=",
    "?\u017fignature=",
    "&t\u0130cket=",
    "a://b:c@d",
    "prompt='",
    'my_prompt="',
    "'input': '",
    '"input":"',
    "input_value=",
    ", input_type=",
    "query argument $1: ",
    "input syntax for type int: ",
    "DETAIL:  ",
    "input was truncated because ",
    " tokens: ",
    "secret",
    "\u0130",
    *"'\"\\ \n",
]


@given(text=st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
def test_no_pattern_is_passed_by_that_would_match(text: str) -> None:
    redactor = Redactor(allow_prompts=False)
    expected = text
    for pattern in redactor._patterns.values():
        expected = pattern.sub(rf"\1{REDACTED}", expected)
    assert redactor.text(text) == expected


def _raise(message: str) -> None:
    try:
        raise ValueError(message)  # noqa: TRY301
    except ValueError:
        logging.getLogger("theirs").exception("failed")


def test_plain_values_stay() -> None:
    event = {"event": "http.request", "status": 200, "seconds": 0.5, "left": None, "ok": True}

    assert Redactor(allow_prompts=False)(None, "info", dict(event)) == event
