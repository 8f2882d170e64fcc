"""What the list matches, however it is written, and how long that takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from serve.moderation.blocklist import Blocklist
from serve.moderation.errors import ModerationSetupError

LINES = r"""
# words
grue
blutbad
straße
кровь

# phrases
red rum
# patterns
/zombi(e|es|fied)\b/
/\bk[i1]ll\s+bill\b/
"""


@pytest.fixture(scope="module")
def blocklist() -> Blocklist:
    return Blocklist(LINES.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "a grue in the dark",
        "A GRUE!",
        "grue",
        "snake_grue_case",
        "ｇｒｕｅ",
        "gr\u200bu\u00ade",
        "gr\u2060ue",
        "𝐠𝐫𝐮𝐞",
        "Ein Blutbad, bitte",
        "in der STRASSE",
        "КРОВЬ на снегу",
        "red rum",
        "a red,\n  RUM",
        "red-rum",
        "a zombified cat",
        "K1LL  bill",
    ],
)
def test_matched(blocklist: Blocklist, text: str) -> None:
    assert blocklist.blocks(text)


@pytest.mark.parametrize(
    "text",
    [
        "gruesome weather",
        "congruent",
        "gr ue",
        "redrum",
        "red hot rum",
        "rum red",
        "blutbäder",
        "a zombi walks",
        "kill a bill",
        "",
        "# words",
    ],
)
def test_not_matched(blocklist: Blocklist, text: str) -> None:
    assert not blocklist.blocks(text)


def test_no_prompt_makes_it_slow() -> None:
    """Python's own `re` takes minutes for each of these."""
    evil = Blocklist(
        ["/(a+)+$/", "/(a|aa)+$/", "/(.*)*x(.*)*y/", *(f"w{n}" for n in range(10_000))]
    )
    text = "a" * 3999 + "!"
    started = time.thread_time()
    assert not evil.blocks(text)
    assert not evil.blocks("a b " * 1000)
    assert time.thread_time() - started < 1


@pytest.mark.parametrize("line", ["!!!", "/(unclosed/", r"/(a)\1/", " ".join(["word"] * 33)])
def test_lines_that_are_no_rule_are_named(line: str) -> None:
    with pytest.raises(ModerationSetupError, match="Line 2"):
        Blocklist(["fine", line])


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffgrue\r\nblut bad\r\n".encode())
    blocklist = Blocklist.read(path)
    assert blocklist.blocks("grue")
    assert blocklist.blocks("blut bad")
    path.write_bytes(b"\xff")
    for wrong in (path, tmp_path / "none.txt"):
        with pytest.raises(ModerationSetupError, match="SFUMATO_MODERATION__BLOCKLIST"):
            Blocklist.read(wrong)
