"""Words, phrases and patterns that prompts may not hold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import re2

from serve.moderation.errors import ModerationSetupError

_WORD = re.compile(r"[^\W_]+")
_LONGEST_PHRASE = 32  # words


class Blocklist:
    """One rule a line: a word, a phrase, or a pattern between slashes; `#` begins a comment.

    Text is compared after NFKC, without case and invisible characters. Words match whole words,
    phrases words in a row, whatever stands between them. Patterns are RE2's, whose time is linear
    in the text: no rule and no prompt can make one slow.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        """
        Raises:
            ModerationSetupError: a line is no rule; the message names it.
        """
        self._phrases: set[tuple[str, ...]] = set()
        patterns = []
        for number, line in enumerate(lines, start=1):
            rule = line.strip()
            if not rule or rule.startswith("#"):
                continue
            if len(rule) > 2 and rule[0] == rule[-1] == "/":
                patterns.append((number, rule[1:-1]))
                continue
            words = _words(_plain(rule))
            if not 0 < len(words) <= _LONGEST_PHRASE:
                raise ModerationSetupError(
                    f"Line {number} of the block-list must have 1 to {_LONGEST_PHRASE} words, or be"
                    " a /pattern/."
                )
            self._phrases.add(words)
        self._lengths = sorted({len(phrase) for phrase in self._phrases})
        self._patterns = _pattern_set(patterns)

    @classmethod
    def read(cls, path: Path) -> Blocklist:
        """The list of a file.

        Raises:
            ModerationSetupError: it cannot be read, or a line is no rule.
        """
        try:
            return cls(path.read_text(encoding="utf-8-sig").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ModerationSetupError(
                f"SFUMATO_MODERATION__BLOCKLIST: {path} cannot be read: {error}."
            ) from error

    def blocks(self, text: str) -> bool:
        """Whether a rule matches the text."""
        plain = _plain(text)
        words = _words(plain)
        for length in self._lengths:
            for start in range(len(words) - length + 1):
                if words[start : start + length] in self._phrases:
                    return True
        return self._patterns is not None and bool(self._patterns.Match(plain))


def _plain(text: str) -> str:
    """Without compatibility forms, case and invisible characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", visible)


def _words(plain: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(plain))


def _pattern_set(patterns: list[tuple[int, str]]) -> re2.Set | None:
    if not patterns:
        return None
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    rules = re2.Set.SearchSet(options)
    for number, pattern in patterns:
        try:
            rules.Add(pattern)
        except re2.error as error:
            raise ModerationSetupError(
                f"Line {number} of the block-list is no pattern of RE2: {error}."
            ) from error
    rules.Compile()
    return rules
