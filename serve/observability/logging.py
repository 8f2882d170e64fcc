"""Log lines: structlog's events through the standard library, where Ray's handlers see them."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor


def configure_logging(form: Literal["console", "json"], *, level: int = logging.INFO) -> None:
    """Send every log line of the process, ours and the libraries', to stderr in one form.

    What `structlog.contextvars.bind_contextvars` binds (``request_id``, ``job_id``) is on each.
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
    if form == "json":
        ending += [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        ending += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
