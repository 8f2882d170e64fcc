"""Log lines: structlog's events through the standard library, where Ray's handlers see them."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from serve.observability.redaction import Redactor

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
        cache_logger_on_first_use=True,
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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Each request is logged by the service itself, with its id.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    # It tells of each WebSocket with its query, which may hold a ticket.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
