"""Log lines: structlog's events through the standard library, where Ray's handlers see them.

No line holds a secret, a prompt unless the settings allow it, or characters that forge lines.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"

_TRUNCATION = "input was truncated because"
"""Diffusers' pipelines warn so of a cut prompt, and quote what was cut off."""

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
# By a lower-case word that is in every text which the pattern matches: most log lines hold none of
# these words, and searching for a word takes a tenth of the time of a pattern. What a pattern
# matches after its first group is redacted.
_SECRETS = {
    "sfm_": r"(\bsfm_)[\w-]{4,}",
    "whsec_": r"(\bwhsec_)[\w+/=-]+",
    "bearer": r"(?i)(\bbearer\s+)[\w.~+/=-]+",
    "api": r"(?i)(\bx-api-key['\"]?\s*[:=,]\s*b?['\"]?)[^\s'\"]+",
    "=": r"(?i)([?&](?:key|signature|ticket|token)=)[^&#\s\"'<>]+",
    "://": r"(\w://[^\s:/@]*:)[^\s@/]+(?=@)",  # a URL's password
}
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$))"""
_PROMPTS = {
    "prompt": rf"""(?s)(\b(?:\w+_)?prompt['"]?\s*[:=]\s*){_QUOTED}""",
    # FastAPI, Pydantic, asyncpg and Postgres quote a value that they refuse.
    "input": rf"""(?s)(['"]input['"]\s*:\s*){_QUOTED}""",
    "input_value": r"(?s)(\binput_value=).*?(?=, input_type=|$)",
    "query argument": r"(query argument \$\d+: )[^\n]+",
    "input syntax": r"(input syntax for type [\w ]+: )[^\n]+",
    "detail:": r"(\bDETAIL:\s+)[^\n]+",
    _TRUNCATION: rf"(?s)(\b{_TRUNCATION} .*? tokens: ).*",
}
_HIDDEN: ContextVar[tuple[str, ...]] = ContextVar("hidden", default=())
_LONG_WORD = 12
# Controls, line and paragraph separators, changes of the direction of writing, lone surrogates.
_HARMFUL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_FORGING = re.compile(rf"[{_HARMFUL}]")
# Neither form shows the variables of a traceback's frames: keys and prompts are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    ExceptionDictTransformer(show_locals=False, use_rich=False)
)


def configure_logging(
    form: Literal["console", "json"],
    *,
    level: int = logging.INFO,
    log_prompts: bool = False,
    handlers: Sequence[logging.Handler] = (),
) -> None:
    """Send every log line of the process, ours and the libraries', to stderr in one form.

    Where ``handlers`` are given, they write the lines instead. Each line has the variables that
    `structlog.contextvars.bind_contextvars` binds (``request_id``, ``job_id``), and the
    ``trace_id`` of the current span, if there is one. No line holds a secret, and none holds a
    prompt unless ``log_prompts``.
    """
    redact_records(log_prompts=log_prompts)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    ending: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    redact = Redactor(allow_prompts=log_prompts)
    if form == "json":
        ending += [_TRACEBACKS, redact, _lead, structlog.processors.JSONRenderer()]
    else:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        ending += [structlog.processors.format_exc_info, redact, console]
    root = logging.getLogger()
    root.handlers = list(handlers) or [logging.StreamHandler(sys.stderr)]
    for handler in root.handlers:
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=ending)
        )
        handler.addFilter(_is_no_truncation)
    root.setLevel(level)
    # Each request is logged by the service itself, with its id.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    # It logs each WebSocket with its query, which may hold a ticket.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def hide(*prompts: str | None) -> None:
    """Redact these prompts wherever a log line of this task quotes them, in whatever form.

    A single short word stays: to cut it out would make other lines unreadable.
    """
    forms = {
        form
        for prompt in prompts
        if prompt and (len(prompt) >= _LONG_WORD or " " in prompt or not prompt.isascii())
        for form in (prompt, repr(prompt)[1:-1], json.dumps(prompt)[1:-1])
    }
    _HIDDEN.set(tuple(sorted(forms, key=len, reverse=True)))  # one may hold another


def _add_trace_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event.setdefault("trace_id", trace.format_trace_id(span.trace_id))
    return event


def _lead(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What people look for first comes first."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}


def redact_records(*, log_prompts: bool = False) -> None:
    """Redact secrets in every record of the process, and prompts unless ``log_prompts``.

    This covers every library and every handler: Ray, diffusers and others have handlers of their
    own. Python's warnings become records as well.
    """
    factory = logging.getLogRecordFactory()
    if isinstance(factory, _RedactedRecords):
        factory = factory.make
    logging.setLogRecordFactory(_RedactedRecords(factory, Redactor(allow_prompts=log_prompts)))
    logging.captureWarnings(True)


def adopt_loggers(*libraries: str) -> None:
    """Have the root's handler write the libraries' records, not handlers of their own.

    Call it after they are imported: they install their handlers then.
    """
    for name in libraries:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True


class _RedactedRecords:
    """A factory of log records whose message and traceback are redacted as they are made."""

    def __init__(self, make: Callable[..., logging.LogRecord], redactor: Redactor) -> None:
        """``make`` is the factory that makes the records to redact."""
        self.make = make
        self._redactor = redactor
        self._formatter = logging.Formatter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        if isinstance(record.msg, dict):
            return record  # structlog's, which `configure_logging` redacts field by field
        try:
            message = record.getMessage()
        except (KeyError, TypeError, ValueError):  # logging would print the arguments as they are
            message, record.args = f"{record.msg} {record.args}", ()
            record.msg = message
        redacted = self._redactor.text(message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters write this text instead of rendering the exception.
            traceback = self._formatter.formatException(record.exc_info)
            record.exc_text = self._redactor.text(traceback)
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return record


def _is_no_truncation(record: logging.LogRecord) -> bool:
    """Drops diffusers' warning of a cut prompt: the engine tells the client what was cut."""
    return not (isinstance(record.msg, str) and _TRUNCATION in record.msg)


class Redactor:
    """A structlog processor that removes secrets from every value, and prompts unless allowed.

    It comes after exceptions have become text. A traceback keeps its lines, each indented, so
    that none looks like a log line of its own.
    """

    def __init__(self, *, allow_prompts: bool) -> None:
        patterns = _SECRETS if allow_prompts else _SECRETS | _PROMPTS
        self._patterns = {word: re.compile(pattern) for word, pattern in patterns.items()}
        self._fields = _SECRET_FIELDS if allow_prompts else _SECRET_FIELDS | _PROMPT_FIELDS
        self._allow_prompts = allow_prompts

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {_line(name): self._field(name, value) for name, value in event.items()}

    def tree(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields, and all that is in them, redacted."""
        return {name: self._value(value) for name, value in fields.items()}

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
        for prompt in () if self._allow_prompts else _HIDDEN.get():
            text = text.replace(prompt, REDACTED)
        lowered = text.lower()
        for word, pattern in self._patterns.items():
            if word in lowered:
                text = pattern.sub(rf"\1{REDACTED}", text)
        return text


def _line(text: str) -> str:
    """The text in one line, with control characters escaped."""
    if text.isascii() and text.isprintable():
        return text
    return _FORGING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
