"""What no log line may hold: secrets, what was prompted, and characters that forge lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

REDACTED = "[redacted]"

TRUNCATION = "input was truncated because"
"""The warning of diffusers' pipelines that tells what was cut off, in clear."""

_SECRET_FIELDS = frozenset(
    {
        "api_key",
        "authorization",
        "cookie",
        "key",
        "password",
        "secret",
        "signature",
        "ticket",
        "token",
        "x-api-key",
    }
)
_PROMPT_FIELDS = frozenset({"negative_prompt", "prompt", "revised_prompt"})
# Each with what is in lower case in all that it could match: most of what is logged has none of
# these words, and to look for a word costs a tenth of a pattern.
_SECRETS = (
    ("sfm_", re.compile(r"\bsfm_[\w-]{4,}"), f"sfm_{REDACTED}"),
    ("whsec_", re.compile(r"\bwhsec_[\w+/=-]+"), f"whsec_{REDACTED}"),
    ("bearer", re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]+"), rf"\1{REDACTED}"),
    (
        "api",
        re.compile(r"(?i)(\bx-api-key['\"]?\s*[:=,]\s*b?['\"]?)[^\s'\"]+"),
        rf"\1{REDACTED}",
    ),
    (
        "=",
        re.compile(r"(?i)([?&](?:key|signature|ticket|token)=)[^&#\s\"'<>]+"),
        rf"\1{REDACTED}",
    ),
    ("://", re.compile(r"(\w://[^\s:/@]*:)[^\s@/]+@"), rf"\1{REDACTED}@"),  # a URL's password
)
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$))"""
_PROMPTS = (
    (
        "prompt",
        re.compile(rf"""(?s)(\b(?:\w+_)?prompt['"]?\s*[:=]\s*){_QUOTED}"""),
        rf"\1{REDACTED}",
    ),
    # What FastAPI, Pydantic, asyncpg and Postgres say of a value that they cannot take.
    ("input", re.compile(rf"""(?s)(['"]input['"]\s*:\s*){_QUOTED}"""), rf"\1{REDACTED}"),
    (
        "input_value",
        re.compile(r"(?s)\binput_value=.*?(?=, input_type=|$)"),
        f"input_value={REDACTED}",
    ),
    ("query argument", re.compile(r"(query argument \$\d+: )[^\n]+"), rf"\1{REDACTED}"),
    ("input syntax", re.compile(r"(input syntax for type [\w ]+: )[^\n]+"), rf"\1{REDACTED}"),
    ("detail:", re.compile(r"(\bDETAIL:\s+)[^\n]+"), rf"\1{REDACTED}"),
    # What diffusers says of a prompt that its text encoder cuts.
    (
        TRUNCATION,
        re.compile(rf"(?s)(\b{TRUNCATION} .*? tokens: ).*"),
        rf"\1{REDACTED}",
    ),
)
# Controls, line and paragraph separators, what turns the direction of writing, lone surrogates.
_HARMFUL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_FORGING = re.compile(rf"[{_HARMFUL}]")


class Redactor:
    """A structlog processor that rids every value of secrets, and of prompts unless allowed.

    It comes after exceptions have become text. A traceback keeps its lines, each indented, so
    that none looks like a log line of its own.
    """

    def __init__(self, *, allow_prompts: bool) -> None:
        self._patterns = _SECRETS if allow_prompts else _SECRETS + _PROMPTS
        self._fields = _SECRET_FIELDS if allow_prompts else _SECRET_FIELDS | _PROMPT_FIELDS

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {_line(name): self._field(name, value) for name, value in event.items()}

    def _field(self, name: str, value: Any) -> Any:
        if name.lower() in self._fields and value is not None:
            return REDACTED
        if name in ("exception", "stack") and isinstance(value, str):
            return "\n".join(f"    {_line(line)}" for line in self.text(value).split("\n"))
        return self._value(value)

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return _line(self.text(value))
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {
                    _line(self.text(str(name))): self._field(str(name), inner)
                    for name, inner in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self._value(inner) for inner in value]
            case _:
                return _line(self.text(str(value)))

    def text(self, text: str) -> str:
        """The text without secrets, and without prompts unless allowed; its lines stay lines."""
        lowered = text.lower()
        for word, pattern, replacement in self._patterns:
            if word in lowered:
                text = pattern.sub(replacement, text)
        return text


def _line(text: str) -> str:
    """The text in one line, without anything that a terminal obeys."""
    if text.isascii() and text.isprintable():
        return text
    return _FORGING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
