"""How deep JSON is nested is told without parsing it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.http.json_body import deeper_than


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


TEXT = st.text(st.sampled_from('[]{}"\\,:a\n'), max_size=8)
VALUES = st.recursive(
    st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@given(VALUES, st.integers(0, 6))
def test_it_is_the_depth_of_what_is_parsed(value: object, limit: int) -> None:
    assert deeper_than(limit, json.dumps(value).encode()) == (depth_of(value) > limit)


@given(st.text(st.sampled_from('[{]}"\\,:a')), st.integers(1, 4))
def test_what_is_broken_is_deep_no_sooner_than_a_parser_would_find(text: str, limit: int) -> None:
    """Behind a deep enough beginning nothing matters."""
    assert deeper_than(limit, b"[" * (limit + 1) + text.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 349_524 + b"1]",
        b'["\\"",' * 170_000,
        b'"' + b'\\"' * 524_000 + b"\\",
        b'"[' * 500_000,
        b"{" * 40 + b'"' * 1_000_000,
    ],
)
def test_no_mebibyte_takes_long(body: bytes) -> None:
    began = time.process_time()
    deeper_than(32, body)

    assert time.process_time() - began < 0.5
