"""Log lines: structlog's events through the standard library, where Ray's handlers see them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from serve.observability.redaction import TRUNCATION, Redactor

# Neither form shows the frames' variables: keys and prompts are among them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    ExceptionDictTransformer(show_locals=False, use_rich=False)
)


def configure_logging(
    form: Literal["console", "json"], *, level: int = logging.INFO, log_prompts: bool = False
) -> None:
    """Send every log line of the process, ours and the libraries', to stderr in one form.

    What `structlog.contextvars.bind_contextvars` binds (``request_id``, ``job_id``) is on each.
    No line holds a secret, and none holds a prompt unless ``log_prompts``.
    """
    redact_records(log_prompts=log_prompts)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
        ending += [_TRACEBACKS, redact, structlog.processors.JSONRenderer()]
    else:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        ending += [structlog.processors.format_exc_info, redact, console]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=ending)
    )
    handler.addFilter(_tells_no_cut_prompt)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Each request is logged by the service itself, with its id.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    # It tells of each WebSocket with its query, which may hold a ticket.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def redact_records(*, log_prompts: bool = False) -> None:
    """See that no record of the process tells a secret, or a prompt unless ``log_prompts``.

    Whichever library logs it, and whatever handler writes it: Ray, diffusers and others have
    handlers of their own. Python's warnings become records as well.
    """
    factory = logging.getLogRecordFactory()
    if isinstance(factory, _RedactedRecords):
        factory = factory.make
    logging.setLogRecordFactory(_RedactedRecords(factory, Redactor(allow_prompts=log_prompts)))
    logging.captureWarnings(True)


def adopt_loggers(*libraries: str) -> None:
    """Let the libraries' records go the way of all others, not by handlers of their own.

    Once they are imported, since they install those then.
    """
    for name in libraries:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True


class _RedactedRecords:
    """A factory of log records whose message and traceback are redacted as they are made."""

    def __init__(self, make: Callable[..., logging.LogRecord], redactor: Redactor) -> None:
        """``make`` is the factory that it stands before."""
        self.make = make
        self._redactor = redactor
        self._formatter = logging.Formatter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        if isinstance(record.msg, dict):
            return record  # structlog's, which `configure_logging` redacts field by field
        try:
            message = record.getMessage()
        except (KeyError, TypeError, ValueError):  # logging would print what does not fit, as it is
            message, record.args = f"{record.msg} {record.args}", ()
            record.msg = message
        redacted = self._redactor.text(message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and record.exc_info[0] is not None:
            # What formatters write, where it is there, instead of rendering the exception.
            traceback = self._formatter.formatException(record.exc_info)
            record.exc_text = self._redactor.text(traceback)
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return record


def _tells_no_cut_prompt(record: logging.LogRecord) -> bool:
    """The engine tells the client what was cut; what diffusers warns of would be half redacted."""
    return not (isinstance(record.msg, str) and TRUNCATION in record.msg)
