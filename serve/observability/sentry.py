"""Errors that nobody expected, sent to Sentry.

The log decides which: each line of level `error` that has an exception, and each of level
`critical`. So an error is reported once, where it is logged. Expected ones have neither.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.observability.logging import Redactor

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_TAGS = frozenset(
    {
        "attempt",
        "delivery_id",
        "image_id",
        "job_id",
        "loop",
        "model",
        "pool",
        "request_id",
        "tenant_id",
        "trace_id",
        "webhook_id",
        "worker_id",
    }
)
_OF_THE_LINE = frozenset({"event", "exc_info", "level", "logger", "stack_info", "timestamp"})


def start_sentry(
    dsn: str,
    *,
    environment: str | None = None,
    traces_sample_rate: float | None = None,
    log_prompts: bool = False,
    tags: Mapping[str, str],
) -> None:
    """Report this process's unexpected errors; ``tags`` are on each of them.

    Call it after `configure_logging`. Neither variables of frames nor bodies are sent, and what is
    sent is redacted as the log is. Of requests, `Transactions` takes that share.
    """
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration

    redact = Redactor(allow_prompts=log_prompts)

    def redacted(event: Event, _: Hint) -> Event:
        return redact.tree(event)  # type: ignore[return-value]

    sentry_sdk.init(
        dsn,
        release=f"sfumato@{version('sfumato')}",
        environment=environment,
        traces_sample_rate=traces_sample_rate,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda _pending, _timeout: None),
            DedupeIntegration(),
        ],
        before_send=redacted,
        before_send_transaction=redacted,
        spotlight=False,  # SENTRY_SPOTLIGHT would turn personal data on, which is off by default
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
    )
    sentry_sdk.get_global_scope().set_tags(dict(tags))
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)  # it writes only as long as there is no handler
    root.addHandler(Reporter())


def report(error: Exception) -> None:
    """Report what ends this process, if Sentry was started."""
    if "sentry_sdk" in sys.modules:
        import sentry_sdk

        sentry_sdk.capture_exception(error)


class Transactions:
    """An ASGI layer: Sentry times each HTTP request, under its route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        import sentry_sdk

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                transaction.set_http_status(message["status"])
            await send(message)

        with (
            sentry_sdk.isolation_scope(),
            sentry_sdk.start_transaction(op="http.server") as transaction,
        ):
            try:
                await self._app(scope, receive, send_observed)
            finally:
                route = getattr(scope.get("route"), "path_format", "unmatched")
                name = f"{scope['method']} {route}"
                sentry_sdk.get_current_scope().set_transaction_name(name, source="route")


class Reporter(logging.Handler):
    """Reports the log lines that tell of unexpected errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the line, if it is one of those."""
        import sentry_sdk
        from sentry_sdk.utils import event_from_exception

        if isinstance(record.msg, dict):  # structlog's
            line: dict[str, Any] = record.msg
            error = _error_of(line.get("exc_info"))
        else:
            line = {"event": record.getMessage(), **structlog.contextvars.get_contextvars()}
            error = _error_of(record.exc_info)
        if error is None and record.levelno < logging.CRITICAL:
            return
        event: Event = {}
        hint: Hint = {}
        if error is not None:
            event, hint = event_from_exception(
                error,
                client_options=sentry_sdk.get_client().options,
                mechanism={"type": "logging", "handled": True},
            )
        event["level"] = "fatal" if record.levelno >= logging.CRITICAL else "error"
        event["logger"] = record.name
        event["logentry"] = {"message": str(line["event"])}
        event["tags"] = {name: str(line[name]) for name in sorted(_TAGS & line.keys())}
        event["extra"] = {
            name: value for name, value in line.items() if name not in _TAGS | _OF_THE_LINE
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            context: dict[str, object] = {
                "trace_id": trace.format_trace_id(span.trace_id),
                "span_id": trace.format_span_id(span.span_id),
            }
            event["contexts"] = {"trace": context}
        sentry_sdk.capture_event(event, hint=hint)


def _error_of(exc_info: object) -> BaseException | None:
    """Of what a log line has as its exception; True stands for the one that is being handled."""
    given = sys.exc_info() if exc_info is True else exc_info
    error = given[1] if isinstance(given, tuple) else given
    return error if isinstance(error, BaseException) else None
