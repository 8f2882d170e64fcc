"""What a prompt is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.trends.terms import Term, TermKind, terms_of

SUBJECT, STYLE, COLOUR = TermKind.SUBJECT, TermKind.STYLE, TermKind.COLOUR


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("a red heart", [(COLOUR, "red"), (SUBJECT, "heart")]),
        ("A RED Heart, a red HEART", [(COLOUR, "red"), (SUBJECT, "heart")]),
        (
            "an Oil  Painting of a fox in the fog",
            [(STYLE, "oil painting"), (SUBJECT, "fox"), (SUBJECT, "fog")],
        ),
        ("oil on canvas: a painting", [(STYLE, "oil on canvas")]),
        ("ukiyo-e, Füchse", [(STYLE, "ukiyo-e"), (SUBJECT, "füchse")]),
        ("ｃａｔ 4k 8k HDR", [(SUBJECT, "cat"), (SUBJECT, "hdr")]),
        ("狐", [(SUBJECT, "狐")]),
        ("", []),
        ("of the and 42 !?", []),
    ],
)
def test_terms(prompt: str, terms: list[tuple[TermKind, str]]) -> None:
    assert terms_of(prompt) == [Term(*each) for each in terms]


@given(st.text(max_size=3000))
def test_any_prompt_has_few_and_short_ones(prompt: str) -> None:
    terms = terms_of(prompt)
    assert len(terms) == len(set(terms)) <= 24
    assert all(0 < len(term.text) <= 40 for term in terms)
