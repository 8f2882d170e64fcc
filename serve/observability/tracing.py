"""Traces, by OpenTelemetry's standard environment variables; see docs/tracing.md.

Without an endpoint to export to, nothing is recorded, and the SDK is not even imported. A span that
continues a trace has its parent in a `TraceContext`, which goes through rows, messages and calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

Attributes = Mapping[str, str | int | float | bool]

_FORMAT = TraceContextTextMapPropagator()
_FLUSH_MS = 5000
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which span others may continue: the two headers of W3C Trace Context."""

    traceparent: str
    tracestate: str | None = None

    @classmethod
    def of(cls, traceparent: str | None, tracestate: str | None = None) -> TraceContext | None:
        """None where there is no trace, as of a job that was submitted without one."""
        return cls(traceparent, tracestate) if traceparent else None

    @property
    def headers(self) -> dict[str, str]:
        """Those of an HTTP request."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}


def ids_of(trace_context: TraceContext | None) -> dict[str, str]:
    """What log lines have of a trace that goes on outside of the current span."""
    if trace_context is None:
        return {}
    return {"trace_id": trace_context.traceparent.split("-")[1]}


def start_tracing(instance: Callable[[], str]) -> None:
    """Record the process's spans from now on, if the environment names where to.

    ``instance`` tells the process's ``service.instance.id``. The provider is not OpenTelemetry's
    global one: that is Ray Serve's, where its own tracing is on.
    """
    global _provider, _tracer
    if _provider is not None or not _wanted():
        return
    from serve.observability.otlp import open_provider

    _provider = open_provider(instance())
    _tracer = _provider.get_tracer("sfumato")


def stop_tracing() -> None:
    """Export what is left, within seconds, and record nothing more. It blocks meanwhile."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()


def _wanted() -> bool:
    """Whether the environment asks for what there is: OTLP over HTTP."""
    given = os.environ.get
    endpoint = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = given("OTEL_TRACES_EXPORTER") or "otlp"
    if not endpoint or exporter == "none" or given("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    protocol = given("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given("OTEL_EXPORTER_OTLP_PROTOCOL")
    if exporter != "otlp" or protocol not in (None, "", "http/protobuf"):
        log.warning(
            "tracing.not_started",
            exporter=exporter,
            protocol=protocol,
            cure="Traces go by OTLP over http/protobuf: point OTEL_EXPORTER_OTLP_ENDPOINT there.",
        )
        return False
    return True


def tracer_provider() -> TracerProvider | None:
    """What FastAPI makes its spans with; None while nothing is recorded."""
    return _provider


def current() -> TraceContext | None:
    """That of the span in whose scope the caller is."""
    return context_of(trace.get_current_span()) if _tracer is not None else None


def context_of(span: Span) -> TraceContext | None:
    """By which others continue the span; None of one that is not recorded for want of a trace."""
    if not span.get_span_context().is_valid:
        return None
    headers: dict[str, str] = {}
    _FORMAT.inject(headers, trace.set_span_in_context(span, Context()))
    return TraceContext(headers["traceparent"], headers.get("tracestate"))


def exemplar() -> dict[str, str] | None:
    """The labels of a histogram's exemplar: the sampled trace in whose scope the caller is."""
    context = trace.get_current_span().get_span_context()
    if _tracer is None or not context.trace_flags.sampled:
        return None
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


def begin(
    name: str,
    parent: TraceContext | None,
    at: float | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> Span:
    """A span that goes on until its ``end``; one that records nothing where there is no parent.

    ``at`` is when it began, by `time.monotonic`, if not now.
    """
    if _tracer is None or parent is None:
        return INVALID_SPAN
    context = _FORMAT.extract(parent.headers, Context())
    return _tracer.start_span(name, context, kind, attributes, start_time=_epoch_ns(at))


def record(
    name: str, parent: Span, began: float, ended: float, attributes: Attributes | None = None
) -> None:
    """A child of ``parent`` that is over; its instants are those of `time.monotonic`."""
    if _tracer is None or not parent.is_recording():
        return
    context = trace.set_span_in_context(parent, Context())
    span = _tracer.start_span(name, context, attributes=attributes, start_time=_epoch_ns(began))
    span.end(_epoch_ns(ended))


def fail(span: Span, error_type: str) -> None:
    """Mark it as failed. Messages are left out: they may quote a prompt."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


@dataclass(slots=True)
class Timed:
    """A part of the work, and how long it took."""

    span: Span
    seconds: float = 0.0
    """Once it is over."""


@contextmanager
def timed(
    name: str,
    parent: TraceContext | None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
) -> Iterator[Timed]:
    """What is done meanwhile, as a span and in seconds, by the same two instants."""
    began = monotonic()
    part = Timed(begin(name, parent, began, kind, attributes))
    try:
        yield part
    except BaseException as error:
        fail(part.span, type(error).__name__)
        raise
    finally:
        ended = monotonic()
        part.seconds = ended - began
        part.span.end(_epoch_ns(ended))


def _epoch_ns(at: float | None) -> int | None:
    """The Unix time of an instant of the monotonic clock."""
    return None if at is None else time_ns() - int((monotonic() - at) * 1e9)
