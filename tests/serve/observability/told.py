"""What a process tells: its log lines as JSON, and what it sends to Sentry."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from serve.observability.logging import configure_logging
from serve.observability.sentry import start_sentry

DSN = "https://public@sentry.invalid/1"


@contextmanager
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, factory = root.handlers, root.level, logging.getLogRecordFactory()
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        logging.setLogRecordFactory(factory)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


class Lines:
    """The lines of a log in JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def of(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == event]


@contextmanager
def logged() -> Iterator[Lines]:
    """What is logged meanwhile."""
    with _restored():
        lines = Lines()
        configure_logging("json", handlers=[logging.StreamHandler(lines.stream)])
        yield lines


class Reports(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__({"dsn": DSN})
        self.sent = ""
        self.events: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent += envelope.serialize().decode()
        if event := envelope.get_event():
            self.events.append(dict(event))
        if transaction := envelope.get_transaction_event():
            self.transactions.append(dict(transaction))


@contextmanager
def reported(traces_sample_rate: float | None = None, **tags: str) -> Iterator[Reports]:
    """What is reported meanwhile."""
    with _restored():
        configure_logging("json", handlers=[logging.StreamHandler(io.StringIO())])
        start_sentry(DSN, environment="tests", traces_sample_rate=traces_sample_rate, tags=tags)
        reports = Reports()
        client = sentry_sdk.get_client()
        client.transport = reports
        try:
            yield reports
        finally:
            sentry_sdk.get_global_scope().set_client(None)
            sentry_sdk.get_global_scope().clear()
            client.close(timeout=0)
