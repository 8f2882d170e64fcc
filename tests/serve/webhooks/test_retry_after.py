"""`Retry-After` as receivers write it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serve.webhooks.outbound import MOST_S, retry_after_s

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("000000000000120", 120),
        ("86401", MOST_S),
        ("9" * 5000, MOST_S),
        ("Tue, 24 Nov 2026 12:01:00 GMT", 60),
        ("Tuesday, 24-Nov-26 12:01:00 GMT", 60),
        ("Tue Nov 24 12:01:00 2026", 60),
        ("Tue, 24 Nov 2026 13:01:00 +0100", 60),
        ("Tue, 24 Nov 2026 11:59:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_S),
    ],
)
def test_seconds_and_dates(text: str, seconds: float) -> None:
    assert retry_after_s(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "1.5",
        "1e9",
        "\u0663",
        "soon",
        "NaN",
        "Tue, 99 Foo 2026",
        "Wed, 1 Jan 99999 0:0:0 GMT",
    ],
)
def test_anything_else_asks_for_nothing(text: str) -> None:
    assert retry_after_s(text, NOW) == 0


def test_an_offset_beyond_any_asks_for_nothing() -> None:
    assert retry_after_s("Tue, 24 Nov 2026 12:01:00 +99999999999999", NOW) == 0
