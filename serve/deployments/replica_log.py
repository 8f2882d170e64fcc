"""Where a replica's log lines go: into the file that Serve keeps for it, and errors to Sentry."""

from __future__ import annotations

import logging
import os
from logging.handlers import MemoryHandler

from serve.observability.logging import configure_logging
from serve.observability.sentry import start_sentry
from serve.settings import Settings


def open_replica_log(settings: Settings, **tags: str) -> None:
    """Write every line of the replica, ours and Serve's, in one form to Serve's file for it.

    Ray's dashboard shows that file and Serve rotates it. Where RAY_LOG_TO_STDERR sends what
    processes print to the container's log, the lines go there as well. Sentry, if it is set,
    gets the unexpected errors with these ``tags``.
    """
    of_serve = logging.getLogger("ray.serve")
    in_memory = [each for each in of_serve.handlers if isinstance(each, MemoryHandler)]
    handlers = [each.target for each in in_memory if each.target is not None]
    if os.environ.get("RAY_LOG_TO_STDERR") == "1":
        handlers.append(logging.StreamHandler())
    configure_logging(settings.log_format, log_prompts=settings.log_prompts, handlers=handlers)
    # Serve looks for its own handler to tell the dashboard of the file: that one stays.
    of_serve.handlers = [*in_memory, *handlers[len(in_memory) :]]
    report_errors(settings, **tags)


def report_errors(settings: Settings, **tags: str) -> None:
    """Send this process's unexpected errors to Sentry, if it is set."""
    if settings.sentry_dsn is not None:
        start_sentry(
            settings.sentry_dsn.get_secret_value(),
            environment=settings.sentry_environment,
            traces_sample_rate=settings.sentry_traces_sample_rate,
            log_prompts=settings.log_prompts,
            tags=tags,
        )
