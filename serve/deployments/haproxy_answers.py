"""What HAProxy says by itself, in the form of the service's own answers."""

from __future__ import annotations

import json
import re

_DEFAULTS = re.compile(r"^defaults$", re.MULTILINE)
# Serve has 502, 503 and 504 told as 500, in plain text.
_ERROR_FILE = re.compile(r"^\s*errorfile \d+ \S+\n", re.MULTILINE)
_APPLICATION = re.compile(r"^\s*use_backend ", re.MULTILINE)
_NO_APPLICATION = re.compile(r"http-request return status 404 .*$", re.MULTILINE)
# Serve bounds neither: headers could come for ever, a byte at a time.
_TIMEOUTS = ("timeout http-request 10s", "timeout http-keep-alive 60s")

_ANSWERS = {
    502: "The replica was lost before it answered; ask again, by Idempotency-Key.",
    503: "No replica can be reached at present; ask again.",
    504: "The replica did not answer in time; ask again, by Idempotency-Key.",
}
"""What HAProxy cannot read as HTTP it refuses by texts of its own, which no directive changes."""


def with_our_answers(config: str) -> str:
    """The configuration that Serve wrote, with its errors as problem documents, and time-outs.

    While HAProxy has not been told of any application Serve has it say 404, which for a client
    is the definite answer that there is no such thing; here it is 503.
    """
    ours = [*_TIMEOUTS, *(f"http-error status {status} {_answer(status)}" for status in _ANSWERS)]
    lines = "\n".join(["defaults", *(f"    {line}" for line in ours)])
    config = _DEFAULTS.sub(lambda _: lines, _ERROR_FILE.sub("", config), count=1)
    if _APPLICATION.search(config):
        return config
    return _NO_APPLICATION.sub(lambda _: f"http-request return status 503 {_answer(503)}", config)


def _answer(status: int) -> str:
    """What follows the status: a problem document (RFC 9457) that has OpenAI's ``error`` too."""
    detail = _ANSWERS[status]
    error = {"message": detail, "type": "server_error", "param": None, "code": "unavailable"}
    body = {
        "title": "Unavailable",
        "status": status,
        "detail": detail,
        "code": "unavailable",
        "error": error,
    }
    return f"content-type application/problem+json hdr Retry-After 1 string '{json.dumps(body)}'"
